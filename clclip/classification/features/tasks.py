"""What the stages of all methods over stored features share; no torch, no open_clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clclip.classification.features.reader import ImageFeatures
from clclip.core.artifacts import Task, read_stage_file
from clclip.core.errors import InputError
from clclip.core.files import write_json
from clclip.core.task import previous_classes, read_task, seen_classes

Array = np.ndarray


class FromFeatures(Protocol):
    """A classifier of frozen features."""

    def log_probabilities(self, features: Array) -> Array:
        """Return (N, K) of features (V, N, d)."""


def write_predictions(task_file: Path, store: ImageFeatures, classifier: FromFeatures) -> None:
    """Classify the images of test.json and write predictions.json beside ``task_file``."""
    folder = task_file.parent
    split = read_stage_file(folder / "test.json", "labels")
    features = store.rows([image["id"] for image in split["images"]])
    table = np.exp(classifier.log_probabilities(features))
    predictions = {
        "classes": seen_classes(read_task(task_file)),
        "images": [image["id"] for image in split["images"]],
        "labels": [image["label"] for image in split["images"]],
        "probabilities": [[round(p, 7) for p in row] for row in table.tolist()],
    }
    write_json(folder / "predictions.json", predictions)


def task_counts(task: Task) -> list[int]:
    """Return how many classes each task has brought."""
    return (
        [len(group) for group in task["groups"]]
        if previous_classes(task)
        else [len(seen_classes(task))]
    )


def class_columns(split: dict[str, Any], classes: list[str], where: Path) -> Array:
    """Return the column (N,) of each image's label among ``classes``.

    Raises:
        InputError: if a label is not among them, or a class has no image.
    """
    column = {name: k for k, name in enumerate(classes)}
    for image in split["images"]:
        if image["label"] not in column:
            raise InputError(f"label {image['label']!r}", where, "a class of the task")
    labels = np.array([column[image["label"]] for image in split["images"]], dtype=np.int64)
    for name, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True):
        if not count:
            expected = "at least 1 image a class (or leave the class out of tasks)"
            raise InputError(f"class {name!r} has no training image", where, expected)
    return labels
