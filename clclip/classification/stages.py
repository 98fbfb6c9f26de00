"""The stages ``train`` and ``predict`` of a trained classification task."""

from __future__ import annotations

import logging
from pathlib import Path

from clclip.classification.task_files import record_metadata
from clclip.core.artifacts import (
    read_stage_file,
)
from clclip.core.files import write_json
from clclip.core.task import read_task

logger = logging.getLogger(__name__)


def train(task_file: Path, resources: Path, attempt: int = 1) -> None:
    """Train one task and write weights.safetensors and history.csv beside ``task_file``.

    Args:
        task_file: task.json; train.json and the weights of all earlier tasks lie where it says.
        resources: folder of data sets and CLIPs.
        attempt: from 2 on, batches are taken in ever smaller micro-batches.
    """
    from clclip.classification.train import train_task

    task = read_task(task_file)
    train_task(task, task_file, resources, record_metadata(task), attempt)


def predict(task_file: Path, resources: Path) -> None:
    """Write predictions.json: probabilities of all seen classes for the images of test.json."""
    from clclip.classification.classifier import load_classifier

    task = read_task(task_file)
    folder = task_file.parent
    split = read_stage_file(folder / "test.json", "labels")
    classifier = load_classifier(task_file, resources)
    table = classifier.probabilities(classifier.pixels_of(split, task, resources))
    predictions = {
        "classes": classifier.classes,
        "images": [image["id"] for image in split["images"]],
        "labels": [image["label"] for image in split["images"]],
        "probabilities": [[round(p, 7) for p in row] for row in table.tolist()],
    }
    write_json(folder / "predictions.json", predictions)
