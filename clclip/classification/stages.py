"""The stages ``train`` and ``predict`` of a classification task.

This module imports no torch: a task whose options train nothing (``trains_anything``) leaves an
empty record within a second.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clclip.classification.options import ClassificationOptions
from clclip.classification.registry import method_options
from clclip.classification.task_files import UNTRAINED_HISTORY, record_metadata
from clclip.core.artifacts import (
    Task,
    read_stage_file,
)
from clclip.core.files import replacing, write_json, write_text
from clclip.core.task import read_task

logger = logging.getLogger(__name__)


def train(task_file: Path, resources: Path, attempt: int = 1) -> None:
    """Train one task and write weights.safetensors and history.csv beside ``task_file``.

    Args:
        task_file: task.json; train.json and the weights of all earlier tasks lie where it says.
        resources: folder of data sets and CLIPs.
        attempt: from 2 on, batches are taken in ever smaller micro-batches.
    """
    task = read_task(task_file)
    folder = task_file.parent
    if not trains_anything(method_options(task["method"], task["switches"])):
        _write_untrained(task, folder)
    else:
        from clclip.classification.train import train_task

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


def trains_anything(options: ClassificationOptions) -> bool:
    """Tell whether a task leaves anything behind at all: not with frozen features and class texts.

    These are zero-shot CLIP, whose method has stages of its own; another method may be set to them.
    """
    used = (options.visual, options.prompt, options.classifier)
    return used != ("frozen", "template", "text")


def _write_untrained(task: Task, folder: Path) -> None:
    """Write the record of a task that trains nothing: no tensors, and a history without rows."""
    from safetensors.numpy import save_file

    with replacing(folder / "weights.safetensors") as temporary:
        save_file({}, temporary, metadata=record_metadata(task))
    write_text(folder / "history.csv", UNTRAINED_HISTORY)
