"""What people call on a trained detector: detect, export, open vocabulary."""
