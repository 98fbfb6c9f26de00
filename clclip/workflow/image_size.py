"""Which sizes of images a tower can see; torch-free."""

from __future__ import annotations

from clclip.clip.architecture import patch
from clclip.core.artifacts import ClipSource
from clclip.core.errors import InputError


def check_size(size: int | None, clip: ClipSource, place: str) -> None:
    """Refuse a size of images that the tower's patches do not cover, where its patch is known."""
    side = patch(clip)
    if size is None or side is None or size % side == 0:
        return
    below = size // side * side
    near = f"{below} or {below + side}" if below else str(side)
    name = clip["id"] if "config_text" in clip else clip["model"]
    expected = f"a multiple of the patch of {name}, {side}, e.g. {near}"
    raise InputError(f"image_size {size}", f"{place}: training.image_size", expected)
