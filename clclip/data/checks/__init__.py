"""Checks of boxes and images, and what they found."""
