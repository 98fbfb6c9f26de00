"""Average precision, accuracy and continual metrics."""
