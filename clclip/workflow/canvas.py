"""The size of images where an experiment gives none, and what sizes a tower can see; torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clclip.clip.architecture import native_size, patch
from clclip.clip.ids import EMBEDDED
from clclip.core.errors import InputError

EMBEDDED_SIZE, CANVAS_SIZE = 128, 640  # default side of the detection canvas in px


def check_size(kind: str, given: int | None, clip: dict[str, Any], place: str) -> None:
    """Refuse a size of images that the tower's patches do not cover, where its patch is known."""
    size = given or (native_size(clip) if kind == "classification" else canvas_side(clip))
    side = patch(clip)
    if size is None or side is None or size % side == 0:
        return
    below = size // side * side
    near = f"{below} or {below + side}" if below else str(side)
    name = clip["id"] if "config_text" in clip else clip["model"]
    expected = f"a multiple of the patch of {name}, {side}, e.g. {near}"
    raise InputError(f"image_size {size}", f"{place}: training.image_size", expected)


def canvas_side(clip: Mapping[str, Any]) -> int:
    """Return the side of the detection canvas in px where the training section gives none.

    The largest multiple of the tower's patch up to F-ViT's 640.
    """
    if clip["model"] in EMBEDDED:
        return EMBEDDED_SIZE
    side = patch(clip) or 1
    return CANVAS_SIZE // side * side
