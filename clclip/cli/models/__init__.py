"""Trained models and choosing one, one module a command."""
