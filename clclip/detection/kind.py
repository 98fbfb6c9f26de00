"""What detection is; torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clclip.clip.architecture import patch
from clclip.clip.ids import EMBEDDED
from clclip.core.kind import Kind
from clclip.detection.registry import METHODS

EMBEDDED_SIZE, CANVAS_SIZE = 128, 640  # default side of the canvas in px


def canvas_side(clip: Mapping[str, Any]) -> int:
    """Return the side of the canvas in px where the training section gives none.

    The largest multiple of the tower's patch up to F-ViT's 640.
    """
    if clip["model"] in EMBEDDED:
        return EMBEDDED_SIZE
    side = patch(clip) or 1
    return CANVAS_SIZE // side * side


DETECTION = Kind(
    name="detection",
    methods=METHODS,
    formats=("shapes", "coco", "voc", "yolo"),
    world="shapes20",
    score="mAP@{}",
    tool=("detect", "boxes"),
    boxes=True,
    dense=True,
    side=canvas_side,
    stages={
        "split": "clclip.data.split",
        "train": "clclip.detection.stages.train",
        "predict": "clclip.detection.stages.train",
        "score": "clclip.evaluation.score",
    },
    memory="memory.",
    verb="detects",
    hub=("object-detection", "mean_average_precision"),
    # what the proposals cover, and what the diagnosis of forgetting reads
    predictions=("predictions.json", "recall.json", "proposals.json", "probe.json"),
)
