"""Frozen CLIP towers, dense tokens, prompts, the cost volume and the small embedded CLIP."""
