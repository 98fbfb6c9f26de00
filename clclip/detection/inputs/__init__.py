"""Images, targets and frozen features as batches."""
