"""Frozen features of whole images and the texts of classes: made once, read without torch."""
