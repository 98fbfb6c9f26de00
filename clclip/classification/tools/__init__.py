"""What people call on a trained classifier: classify, feature drift."""
