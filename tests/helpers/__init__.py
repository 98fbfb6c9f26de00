"""What several test files share: small models, data sets, runs and readers of outputs."""
