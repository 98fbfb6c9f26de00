"""``clclip export --onnx``: a trained model with its tower as one file that needs no torch."""
