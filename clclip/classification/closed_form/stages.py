"""The stages ``train`` and ``predict`` of a closed-form task; no torch, no open_clip.

All that a task reads of its images is the feature store. What it leaves is a record of sums, so
there is no gradient, no schedule and nothing to resume.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clclip.classification.closed_form.fitting import published_penalty, solved
from clclip.classification.closed_form.gda_text import text_balance
from clclip.classification.closed_form.learner import Solved
from clclip.classification.closed_form.maps import Maps, task_record
from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.closed_form.record import check_widths, fold_of, read_record
from clclip.classification.closed_form.texts import reads_text
from clclip.classification.features.reader import new_texts, open_store
from clclip.classification.features.records import Record, write_record
from clclip.classification.features.tasks import class_columns, task_counts, write_predictions
from clclip.classification.registry import METHODS
from clclip.classification.task_files import UNTRAINED_HISTORY, record_metadata
from clclip.core.artifacts import (
    Task,
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


def train(task_file: Path, resources: Path, attempt: int = 1) -> None:
    """Add up one task and write weights.safetensors and history.csv beside ``task_file``."""
    task = read_task(task_file)
    folder = task_file.parent
    split = read_stage_file(folder / "train.json", "labels")
    store = open_store(task, "train", resources)
    features = store.rows([image["id"] for image in split["images"]])
    labels = class_columns(split, current_classes(task), folder / "train.json")
    folds = np.array([fold_of(image["id"]) for image in split["images"]])
    maps = maps_of(task, store.width)
    new = len(current_classes(task))
    record = task_record(maps, features, labels, folds, new)
    if reads_text(maps.options.head, maps.options.prior):
        record["text"] = new_texts(task, store, resources)
    if maps.options.head == "gda_text" and not previous_classes(task):
        balance = text_balance(maps, features, labels, folds, record["text"].astype(np.float64))
        record["balance"] = np.array(balance, dtype=np.float64)
    if maps.options.penalty_rule == "holdout" and maps.options.head in ("ridge", "joined"):
        folders = task_folders(task_file)[:-1] if previous_classes(task) else []
        earlier = [read_record(place / "weights.safetensors") for place in folders]
        counts = task_counts(task)
        penalty = published_penalty(maps, earlier, counts, features, labels, task["seed"])
        record["penalty"] = np.array([penalty])
    write_record(folder / "weights.safetensors", record, record_metadata(task))
    write_text(folder / "history.csv", UNTRAINED_HISTORY)


def predict(task_file: Path, resources: Path) -> None:
    """Write predictions.json: probabilities of all seen classes for the images of test.json."""
    store = open_store(read_task(task_file), "test", resources)
    write_predictions(task_file, store, load_solved(task_file, store.width))


def maps_of(task: Task, width: int) -> Maps:
    """Return the maps of features that a task's options ask for."""
    options = METHODS[task["method"]].given(task["switches"])
    assert isinstance(options, ClosedFormOptions)
    return Maps(options, task["seed"], width)


def load_solved(task_file: Path, width: int) -> Solved:
    """Return the classifier as it stands after a task.

    Raises:
        InputError: if the record of a task is missing, damaged or of another method.
    """
    task = read_task(task_file)
    folders: Sequence[Path] = task_folders(task_file)
    if not previous_classes(task):
        folders = folders[-1:]
    records = [read_record(folder / "weights.safetensors") for folder in folders]
    check_widths(records, folders, width)
    maps = maps_of(task, width)
    text = _text(records, folders) if reads_text(maps.options.head, maps.options.prior) else None
    try:
        return solved(maps, records, task_counts(task), text)
    except (KeyError, ValueError, IndexError) as error:
        expected = "records made by this task's method and switches"
        raise InputError(
            f"records that do not fit ({error})", folders[0].parent, expected
        ) from None


def _text(records: Sequence[Record], folders: Sequence[Path]) -> Array:
    """Return the text embeddings (K, d) that the tasks stored."""
    for record, folder in zip(records, folders, strict=True):
        if "text" not in record:
            expected = "a record made by this task's method"
            raise InputError("no tensor 'text'", folder / "weights.safetensors", expected)
    return np.concatenate([record["text"] for record in records]).astype(np.float64)
