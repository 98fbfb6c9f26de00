"""CL-CLIP: pathways decoupled by the cost volume, one expert per class."""
