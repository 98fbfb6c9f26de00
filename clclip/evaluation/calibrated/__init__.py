"""Scores that mean something: a map from scores to shares right, and a threshold per class."""
