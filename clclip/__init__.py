"""CLIP-based continual learning: CL-CLIP (object detection) and SECA (image classification)."""

__version__ = "0.1.0"
