"""What an experiment asks of its CLIP: sizes of images, texts that differ; torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clclip.clip.architecture import patch
from clclip.clip.own.values import check_values
from clclip.clip.prompts import clean_name
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


def check_own(clip: Mapping[str, Any]) -> None:
    """Refuse values in the model config of a CLIP of one's own that open_clip cannot take.

    Raises:
        InputError: for the first of them.
    """
    if text := clip.get("config_text"):
        check_values(text, clip.get("config", clip["model"]))


def shared_texts(classes: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """Return a line for each text that stands for several classes, which no CLIP tells apart.

    Args:
        classes: names of all classes.
        texts: what stands for a class name where it is not itself the text.
    """
    by_text: dict[str, list[str]] = {}
    for name in classes:
        by_text.setdefault(clean_name(texts.get(name, name)), []).append(name)
    return [
        f"{', '.join(map(repr, names))} are all {text!r} to the CLIP, which cannot tell them "
        "apart; give each words of its own under text:"
        for text, names in by_text.items()
        if len(names) > 1
    ]
