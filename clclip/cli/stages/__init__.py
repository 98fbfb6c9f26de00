"""The stages that the workflow's rules call, one module a command; each works by hand too."""
