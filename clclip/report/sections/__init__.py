"""One section of the report's page a file."""
