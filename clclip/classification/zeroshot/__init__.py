"""Zero-shot CLIP: class texts alone."""
