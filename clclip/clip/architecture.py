"""What a tower's architecture decides: dense mode, taps, sizes; imports no open_clip."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clclip.clip.ids import EMBEDDED
from clclip.core.models import open_clip_config

EMBEDDED_BLOCKS = 4
TIMM_BLOCKS = {
    **{"tiny": 12, "small": 12, "medium": 12, "base": 12, "large": 24, "so400m": 27},
    **{"giant": 40, "gigantic": 50, "enormous": 64},
}
NO_TOKENS = ("convnext", "swin", "fastvit", "vit_relpos")  # families of timm, see clip/trunk.py


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


def has_patch_tokens(model: str) -> bool:
    """Return whether features can be taken from a tower: False for what is surely no ViT."""
    vision = _vision({"model": model})
    timm = str(vision.get("timm_model_name") or "")
    return not isinstance(vision.get("layers"), list) and not timm.startswith(NO_TOKENS)


def patch(clip: Mapping[str, Any]) -> int | None:
    """Return the side of the tower's patches in px, None where its architecture does not tell."""
    vision = _vision(clip)
    if timm := vision.get("timm_model_name"):
        named = re.search(r"_patch(\d+)(?=_|$)", str(timm))
        return int(named[1]) if named else None
    size = vision.get("patch_size")
    return size if isinstance(size, int) else None


def native_size(clip: Mapping[str, Any]) -> int | None:
    """Return the side of the images that the tower was trained on, None where it is not told."""
    size = _vision(clip).get("image_size")
    return size if isinstance(size, int) else None


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
    """Return the ``vision_cfg`` of the architecture's file; empty if there is none."""
    model = clip["model"]
    own = model in EMBEDDED
    path = Path(__file__).parent / "embedded" / f"{model}.json" if own else open_clip_config(model)
    if path is None:
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")).get("vision_cfg", {}))
