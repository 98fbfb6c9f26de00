"""What finished runs say, one module a command."""
