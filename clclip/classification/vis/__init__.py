"""VIS (arXiv 2609.37888): tokens of several blocks, mixed, under a ridge of random features."""
