"""The stages ``train`` and ``predict`` of a RAPF task; they read the feature store, no torch."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clclip.classification.features.reader import new_texts, open_store
from clclip.classification.features.records import Record, read_tensors, write_record
from clclip.classification.features.tasks import class_columns, write_predictions
from clclip.classification.features.vectors import log_softmax
from clclip.classification.rapf.adapter import Gaussians, cosines, fused, gaussians_of, trained
from clclip.classification.rapf.options import RapfOptions
from clclip.classification.task_files import UNTRAINED_HISTORY, record_metadata
from clclip.core.artifacts import (
    read_stage_file,
)
from clclip.core.errors import InputError
from clclip.core.files import write_text
from clclip.core.task import (
    current_classes,
    previous_classes,
    read_task,
    task_folders,
)

Array = np.ndarray

logger = logging.getLogger(__name__)

KEYS = ("adapter", "mean", "factor", "text")


def train(task_file: Path, resources: Path, attempt: int = 1) -> None:
    """Train one task's adapter; write weights.safetensors and history.csv beside ``task_file``."""
    task = read_task(task_file)
    folder = task_file.parent
    split = read_stage_file(folder / "train.json", "labels")
    store = open_store(task, "train", resources)
    features = store.rows([image["id"] for image in split["images"]])[0]
    classes = current_classes(task)
    labels = class_columns(split, classes, folder / "train.json")
    options = RapfOptions(**task["switches"])
    earlier = _records(task_folders(task_file)[:-1]) if previous_classes(task) else []
    text = np.concatenate(
        [*(record["text"] for record in earlier), new_texts(task, store, resources)]
    ).astype(np.float64)
    before = _joined(earlier) if earlier else None
    start = earlier[-1]["adapter"].astype(np.float64) if earlier else np.eye(store.width)
    if start.shape != (store.width, store.width):
        what = f"an adapter of shape {start.shape}"
        raise InputError(what, folder.parent, f"width {store.width}, as this task's CLIP gives")
    digest = hashlib.sha256(f"rapf {task['seed']} {task['task']}".encode()).digest()
    draws = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    old = len(previous_classes(task))
    adapter = trained(start, features, labels + old, text, before, options, draws)
    if earlier:
        adapter = fused(start, adapter, options.fusion)
    own = gaussians_of(features, labels, len(classes))
    record = {"adapter": adapter, "mean": own.mean, "factor": own.factor, "text": text[old:]}
    record = {name: value.astype(np.float32) for name, value in record.items()}
    size = sum(value.nbytes for value in record.values()) / 2**20
    logger.info("record: adapter and %d Gaussians, %.3f MiB", len(classes), size)
    write_record(folder / "weights.safetensors", record, record_metadata(task))
    write_text(folder / "history.csv", UNTRAINED_HISTORY)


def predict(task_file: Path, resources: Path) -> None:
    """Write predictions.json: probabilities of all seen classes for the images of test.json."""
    store = open_store(read_task(task_file), "test", resources)
    write_predictions(task_file, store, load_solved(task_file, store.width))


@dataclass(frozen=True)
class Adapted:
    """A trained adapter (d, d) with the texts (K, d) of all seen classes."""

    adapter: Array
    text: Array
    scale: float

    def log_probabilities(self, features: Array) -> Array:
        """Return (N, K) of features (V, N, d); only the unmirrored view is used."""
        return log_softmax(self.scale * cosines(self.adapter, features[0], self.text))


def load_solved(task_file: Path, width: int) -> Adapted:
    """Return the classifier as it stands after a task.

    Raises:
        InputError: if the record of a task is missing, damaged or of another method.
    """
    task = read_task(task_file)
    records = _records(task_folders(task_file))
    adapter = records[-1]["adapter"].astype(np.float64)
    if adapter.shape != (width, width):
        where = task_file.parent / "weights.safetensors"
        raise InputError(f"an adapter of shape {adapter.shape}", where, f"({width}, {width})")
    text = np.concatenate([record["text"] for record in records]).astype(np.float64)
    return Adapted(adapter, text, float(task["switches"]["scale"]))


def _records(folders: list[Path]) -> list[Record]:
    """Return the records of tasks."""
    return [read_tensors(folder / "weights.safetensors", KEYS) for folder in folders]


def _joined(records: list[Record]) -> Gaussians:
    """Return the Gaussians of all old classes."""
    parts = ([np.float64(record[name]) for record in records] for name in ("mean", "factor"))
    return Gaussians(*(np.concatenate(part) for part in parts))
