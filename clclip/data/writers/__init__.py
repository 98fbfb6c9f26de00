"""Detections in the files of other tools; COCO, which all of them read, is written besides."""
