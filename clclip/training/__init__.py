"""The fit loop, checkpoints with exact resume, and logging."""
