"""Data sets and CLIPs, one module a command."""
