"""Readers, the generated shapes world, task splits."""
