"""What a tower's architecture decides: dense mode, taps, sizes; imports no open_clip."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from clclip.clip.ids import EMBEDDED
from clclip.clip.own import model_config
from clclip.core.models import open_clip_config

EMBEDDED_BLOCKS = 4


def blocks(clip: Mapping[str, Any]) -> int:
    """Return the number of transformer blocks of the visual tower."""
    if clip["model"].startswith("embedded"):
        return EMBEDDED_BLOCKS
    vision = _vision(clip)
    if name := vision.get("timm_model_name"):
        return _timm_number(str(name), "depth") or 12
    layers = vision.get("layers", 12)
    return layers if isinstance(layers, int) else 12


def has_patch_tokens(model: str) -> bool:
    """Return whether features can be taken from a tower: False for what is surely no ViT."""
    return model_config.has_patch_tokens(_vision({"model": model}))


def patch(clip: Mapping[str, Any]) -> int | None:
    """Return the side of the tower's patches in px, None where its architecture does not tell."""
    vision = _vision(clip)
    if timm := vision.get("timm_model_name"):
        named = re.search(r"_patch(\d+)(?=_|$)", str(timm))
        return int(named[1]) if named else _timm_number(str(timm), "patch_size")
    return _side(vision.get("patch_size", 16)) if vision else None


def native_size(clip: Mapping[str, Any]) -> int | None:
    """Return the side of the images that the tower was trained on, None where it is not known."""
    vision = _vision(clip)
    return _side(vision.get("image_size", 224)) if vision else None


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
    return "tokens" if vision.get("pool_type") == "avg" else "catseg"


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


def _side(size: Any) -> int | None:
    """Return the side of a square given as a number or as two equal ones, None otherwise."""
    sides = set(size) if isinstance(size, list) and size else {size}
    side = sides.pop()
    return side if not sides and type(side) is int else None


def _timm_number(name: str, key: str) -> int | None:
    """Return a number that timm's source gives to the model ``name``, None where it tells none."""
    match = re.search(rf"\b{key}=(\d+)\b", _timm_source(name)[1])
    return int(match[1]) if match else None


def timm_module(name: str) -> str | None:
    """Return the module of timm that defines a model, e.g. ``eva``; None where none does."""
    return _timm_source(name)[0]


@cache
def _timm_source(name: str) -> tuple[str | None, str]:
    """Return the module of timm that defines the model ``name``, and the definition; else ""."""
    spec = importlib.util.find_spec("timm")
    for folder in list(spec.submodule_search_locations or []) if spec else []:
        for path in sorted((Path(folder) / "models").glob("*.py")):
            _, definition, rest = path.read_text(encoding="utf-8").partition(
                f"\ndef {_stem(name)}("
            )
            if definition:
                return path.stem, re.split(r"\n(?=@|def )", rest)[0]
    return None, ""


def _stem(name: str) -> str:
    """Return the name of a timm model without the tag of its weights."""
    return name.split(".")[0]


def _vision(clip: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``vision_cfg`` of the architecture's file; empty if there is none."""
    if text := clip.get("config_text"):
        return model_config.vision_of(text)
    model = clip["model"]
    own = model in EMBEDDED
    path = Path(__file__).parent / "embedded" / f"{model}.json" if own else open_clip_config(model)
    if path is None:
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")).get("vision_cfg", {}))
