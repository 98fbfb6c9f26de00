"""Results of a run, read back for Python users."""
