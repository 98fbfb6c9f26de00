"""This machine and this working directory, one module a command."""
