"""The stages ``train`` and ``predict`` of zero-shot CLIP: a task keeps the texts of its classes.

No training image is read. Both stages take the store of the test images; no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clclip.classification.features.reader import new_texts, open_store
from clclip.classification.features.records import read_tensors, write_record
from clclip.classification.features.tasks import write_predictions
from clclip.classification.features.vectors import log_softmax, unit
from clclip.classification.task_files import UNTRAINED_HISTORY, record_metadata
from clclip.core.errors import InputError
from clclip.core.files import write_text
from clclip.core.task import previous_classes, read_task, task_folders

Array = np.ndarray


def train(task_file: Path, resources: Path, attempt: int = 1) -> None:
    """Write the texts of one task's classes: weights.safetensors, and an empty history.csv."""
    task = read_task(task_file)
    folder = task_file.parent
    record = {"text": new_texts(task, open_store(task, "test", resources), resources)}
    write_record(folder / "weights.safetensors", record, record_metadata(task))
    write_text(folder / "history.csv", UNTRAINED_HISTORY)


def predict(task_file: Path, resources: Path) -> None:
    """Write predictions.json: probabilities of all seen classes for the images of test.json."""
    store = open_store(read_task(task_file), "test", resources)
    write_predictions(task_file, store, load_solved(task_file, store.width))


@dataclass(frozen=True)
class ByText:
    """Unit texts (K, d) of all seen classes."""

    text: Array
    scale: float

    def log_probabilities(self, features: Array) -> Array:
        """Return (N, K) of features (V, N, d); only the unmirrored view is used."""
        return log_softmax(self.scale * unit(features[0]) @ self.text.T)


def load_solved(task_file: Path, width: int) -> ByText:
    """Return the classifier as it stands after a task.

    Raises:
        InputError: if the record of a task is missing, damaged or of another method.
    """
    task = read_task(task_file)
    folders = task_folders(task_file) if previous_classes(task) else [task_file.parent]
    rows = []
    for folder in folders:
        place = folder / "weights.safetensors"
        rows.append(read_tensors(place, ("text",))["text"].astype(np.float64))
        if rows[-1].shape[-1] != width:
            what, expected = f"texts of width {rows[-1].shape[-1]}", f"width {width}"
            raise InputError(what, place, f"{expected}, as this task's CLIP gives")
    return ByText(np.concatenate(rows), float(task["switches"]["inference_scale"]))
