"""Using a trained model: images in, boxes or class probabilities out."""
