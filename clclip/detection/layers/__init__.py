"""Torch parts that every detector shares."""
