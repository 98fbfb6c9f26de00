"""The drawn worlds: objects, renditions, scenes, all in integers."""
