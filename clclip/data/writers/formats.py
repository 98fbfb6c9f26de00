"""The formats of other tools, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError, nearest
from clclip.data.writers.detections import Detections
from clclip.data.writers.label_studio import write_label_studio
from clclip.data.writers.voc import write_voc
from clclip.data.writers.yolo import write_yolo

FORMATS: dict[str, tuple[str, Callable[[Detections, Path], None]]] = {
    "yolo": ("yolo/data.yaml, labels/*.txt", write_yolo),
    "voc": ("voc/Annotations/*.xml, ImageSets/Main", write_voc),
    "label-studio": ("label_studio.json", write_label_studio),
}
"""Name -> what it writes below the folder of results, and the function that does."""


def chosen_formats(text: str | None) -> list[str]:
    """Return the formats that an option names, separated by commas; COCO stands for none.

    Raises:
        InputError: for one that is not known.
    """
    chosen = [part.strip() for part in (text or "").split(",") if part.strip()]
    known = ("coco", *FORMATS)
    for name in chosen:
        if name not in known:
            what = f"format {name!r}{nearest(name, known)}"
            raise InputError(what, "--format", f"one or several of {', '.join(known)}")
    return [name for name in dict.fromkeys(chosen) if name != "coco"]


def write_formats(
    dataset: Mapping[str, Any], out: Path, formats: Sequence[str], maker: str
) -> None:
    """Write a COCO data set of detections in other formats below ``out``."""
    detections = Detections.of(dataset, maker)
    for name in formats:
        FORMATS[name][1](detections, out)
