"""What classification is; torch-free."""

from __future__ import annotations

from clclip.classification.registry import METHODS
from clclip.clip.architecture import native_size
from clclip.core.kind import Kind

CLASSIFICATION = Kind(
    name="classification",
    methods=METHODS,
    formats=("shapes", "folder", "cifar100"),
    world="shapes_cil",
    score="Accuracy {}",
    tool=("classify", "classes.json"),
    boxes=False,
    dense=False,
    side=native_size,
    stages={
        "split": "clclip.data.split",
        "train": "clclip.classification.stages",
        "predict": "clclip.classification.stages",
        "score": "clclip.evaluation.score",
    },
    memory="gaussian.",
    verb="tells apart",
    hub=("image-classification", "accuracy"),
    predicts_with_training=True,
    training={
        "epochs": 10,
        "batch_size": 64,
        "optimizer": "adam",
        "weight_decay": 5e-4,
        "warmup_steps": 0,
        "augment": "none",
    },
)
