"""Changing a model: learning on from it, dropping classes, merging two."""
