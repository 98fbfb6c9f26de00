"""What an experiment asks of its CLIP: sizes of images, texts that differ; torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clclip.clip.architecture import patch, timm_module
from clclip.clip.own.model_config import vision_of
from clclip.clip.own.values import check_values
from clclip.clip.prompts import clean_name
from clclip.config.clip import ClipConfig
from clclip.config.start import Start, clip_of
from clclip.core.artifacts import ClipSource, Task
from clclip.core.errors import InputError
from clclip.core.task import seen_classes, text_names
from clclip.model.kinds import KINDS

DENSE = "a vision transformer of open_clip or timm, such as ViT-B-16"
# of timm: its other modules define towers whose blocks are not those of a ViT (clip/trunk.py)
DENSE_MODULES = "deit eva vision_transformer vision_transformer_hybrid vitamin".split()


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


def checked_clip(
    given: ClipConfig, start: Start | None, cache: Path | None, job: bool, where: object
) -> ClipSource:
    """Return an experiment's CLIP, its model config checked.

    Args:
        given: the section ``clip`` of its file.
        start: the model that it starts from, if there is one.
        cache: folder of earlier plans' records of CLIPs.
        job: whether a job of a planned run asks.
        where: the file; messages begin with it, whatever place behind it is wrong.

    Raises:
        InputError: for the first thing that is missing or wrong; ``Missing`` stays that.
    """
    try:
        clip = clip_of(given, start, cache, job)
        check_own(clip)
    except InputError as error:
        place = error.where if error.where.startswith("clip") else f"clip: {error.where}"
        raise type(error)(error.what, f"{where}: {place}", error.expected) from None
    return clip


def check_own(clip: Mapping[str, Any]) -> None:
    """Refuse a model config of one's own with values or a tower that cannot be taken.

    Raises:
        InputError: for the first of them.
    """
    if not (text := clip.get("config_text")):
        return
    place = clip.get("config", clip["model"])
    check_values(text, place)
    timm = str(vision_of(text).get("timm_model_name") or "")
    module = timm_module(timm) if timm else None  # None: fetch-clip says that timm has none such
    if module is not None and module not in DENSE_MODULES:
        where = f"{place}: vision_cfg: timm_model_name"
        raise InputError(f"{timm} has no dense mode", where, DENSE)


def shared_texts(task: Task) -> list[str]:
    """Return a line for each text that stands for several classes, which no CLIP tells apart.

    Those of a shipped stream and of a model that the stream starts from count too; a method that
    reads no text has none.

    Args:
        task: the last task of a stream.
    """
    if not KINDS[task["kind"]].methods[task["method"]].given(task["switches"]).reads_text:
        return []
    by_text: dict[str, list[str]] = {}
    for name, text in zip(seen_classes(task), text_names(task), strict=True):
        if name not in task.get("hidden", ()):
            by_text.setdefault(clean_name(text), []).append(name)
    return [
        f"{', '.join(map(repr, names))} are all {text!r} to the CLIP, which cannot tell them "
        "apart; give each words of its own under text:"
        for text, names in by_text.items()
        if len(names) > 1
    ]
