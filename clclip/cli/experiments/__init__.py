"""What an experiment is, needs and does, one module a command."""
