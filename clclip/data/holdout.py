"""Training images that a task does not train on: its scores are calibrated on them.

Which ones depends on an image's id alone, so an image that returns in a later task is held out
there too, and no detector of the stream ever trained on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from clclip.core.artifacts import Task
from clclip.core.errors import InputError


def share_held_out(task: Task) -> float:
    """Return ``training.holdout`` of a task, 0 where it is left out."""
    return float(task.get("training", {}).get("holdout", 0.0))


def is_held_out(image_id: int, share: float) -> bool:
    """Tell whether an image is among the ``share`` that is held out."""
    digest = hashlib.sha256(f"holdout/{image_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 < share


def divided(
    split: Mapping[str, Any], share: float, where: object
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a COCO-format split without its held-out images, and these with their labels.

    Args:
        split: images, annotations, categories.
        share: of the images that is held out, from 0.
        where: for messages.

    Raises:
        InputError: if no image, or every one, is held out.
    """
    held = {i["id"] for i in split["images"] if share > 0 and is_held_out(i["id"], share)}
    count = len(split["images"])
    if share > 0 and count and len(held) in (0, count):
        what = f"training.holdout {share:g} takes {len(held)} of {count} images"
        raise InputError(what, where, "a share that leaves images on both sides")

    def part(inside: bool) -> dict[str, Any]:
        return {
            **split,
            "images": [i for i in split["images"] if (i["id"] in held) is inside],
            "annotations": [a for a in split["annotations"] if (a["image_id"] in held) is inside],
        }

    return part(False), part(True)
