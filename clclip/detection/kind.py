"""What detection is; torch-free."""

from __future__ import annotations

from clclip.core.kind import Kind
from clclip.detection.registry import METHODS

DETECTION = Kind(
    name="detection",
    methods=METHODS,
    formats=("shapes", "coco", "voc"),
    world="shapes20",
    stages={
        "split": "clclip.data.split",
        "train": "clclip.detection.stages.train",
        "predict": "clclip.detection.stages.train",
        "score": "clclip.evaluation.score",
    },
    # what the proposals cover, and what the diagnosis of forgetting reads
    predictions=("predictions.json", "recall.json", "proposals.json", "probe.json"),
)
