"""Checks of boxes and images, and their findings."""
