"""Continual object detection: F-ViT and CL-CLIP."""
