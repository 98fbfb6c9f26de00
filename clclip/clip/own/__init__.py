"""CLIPs that open_clip does not list: a config of one's own, a local folder, a hub's model."""
