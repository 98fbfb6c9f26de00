"""What people call on a trained detector: open vocabulary."""
