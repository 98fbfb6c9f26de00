"""Class-incremental classification: SECA and its baselines."""
