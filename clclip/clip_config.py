"""What a tower's architecture decides by default: dense mode and taps; imports no open_clip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clclip.validation import open_clip_config

EMBEDDED_BLOCKS = 4
TIMM_BLOCKS = {
    **{"tiny": 12, "small": 12, "medium": 12, "base": 12, "large": 24, "so400m": 27},
    **{"giant": 40, "gigantic": 50, "enormous": 64},
}


def blocks(clip: Mapping[str, Any]) -> int:
    """Return the number of transformer blocks of the visual tower."""
    if clip["model"].startswith("embedded"):
        return EMBEDDED_BLOCKS
    vision = _vision(clip)
    name = str(vision.get("timm_model_name", ""))
    for word, count in TIMM_BLOCKS.items():
        if word in name:
            return count
    layers = vision.get("layers", 12)
    return layers if isinstance(layers, int) else 12


def dense_mode(clip: Mapping[str, Any]) -> str:
    """Return the dense mode that fits the way the tower pools its tokens.

    ``clclip probe-dense`` measures all modes on labelled images; this is the choice without
    measuring.
    """
    if clip["model"].startswith("embedded"):
        return {"embedded_cls": "catseg", "embedded_map": "attnpool"}.get(clip["model"], "tokens")
    vision = _vision(clip)
    if vision.get("timm_pool") == "map" or vision.get("attentional_pool"):
        return "attnpool"
    if vision.get("timm_model_name"):
        return "maskclip"
    return "catseg"


def taps(clip: Mapping[str, Any], count: int) -> list[int]:
    """Return the 0-based blocks after which the pyramid's inputs are taken, the last included.

    Four of twelve are F-ViT's 3, 5, 7, 11; the embedded tower's are its last ``count``; evenly
    spaced elsewhere.
    """
    depth = blocks(clip)
    count = min(count, depth)
    if (depth, count) == (12, 4):
        return [3, 5, 7, 11]
    if depth == EMBEDDED_BLOCKS:
        return list(range(depth - count, depth))
    return [depth * (k + 1) // count - 1 for k in range(count)]


def _vision(clip: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``vision_cfg`` of open_clip's architecture file; empty if there is none."""
    path = open_clip_config(clip["model"])
    if path is None:
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")).get("vision_cfg", {}))
