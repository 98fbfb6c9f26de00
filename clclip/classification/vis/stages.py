"""The stages ``train`` and ``predict`` of a VIS task; they read a store of taps, no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.maps import Maps, seen, task_record
from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.closed_form.record import check_widths, read_record
from clclip.classification.features.reader import open_store
from clclip.classification.features.records import Record, read_tensors, write_record
from clclip.classification.features.tasks import class_columns, task_counts, write_predictions
from clclip.classification.features.vectors import log_softmax
from clclip.classification.task_files import UNTRAINED_HISTORY, record_metadata
from clclip.classification.vis.mixer import KEYS, Mixer, trained_mixer
from clclip.classification.vis.options import VisOptions
from clclip.classification.vis.solving import chosen_penalty, one_against_all
from clclip.core.artifacts import (
    Task,
    read_stage_file,
)
from clclip.core.errors import InputError
from clclip.core.files import write_text
from clclip.core.task import current_classes, previous_classes, read_task, task_folders

Array = np.ndarray

FIRST = (*(f"mixer.{key}" for key in KEYS), "penalty")


def train(task_file: Path, resources: Path, attempt: int = 1) -> None:
    """Add up one task; the first trains the mixer too. Write weights.safetensors, history.csv."""
    task = read_task(task_file)
    folder = task_file.parent
    split = read_stage_file(folder / "train.json", "labels")
    taps = open_store(task, "train", resources).rows([image["id"] for image in split["images"]])
    classes = current_classes(task)
    labels = class_columns(split, classes, folder / "train.json")
    options = VisOptions(**task["switches"])
    maps = _maps(options, task["seed"], taps.shape[-1])
    record: Record = {}
    if previous_classes(task):
        mixer = _first(task_folders(task_file)[0], taps.shape)[0]
        mixed = mixer(taps)
    else:
        mixer = trained_mixer(taps, labels, options, _draws(task, "mixer"))
        record = mixer.record()
        mixer = Mixer.of(record)  # as later tasks read it
        mixed = mixer(taps)
        penalty = options.fixed_penalty or chosen_penalty(
            maps.hidden, mixed, labels, options.cost, _draws(task, "penalty")
        )
        record["penalty"] = np.array([penalty])
    none = np.zeros(len(labels), dtype=np.int32)  # nothing here is fitted by folds
    record |= task_record(maps, mixed[None], labels, none, len(classes))
    write_record(folder / "weights.safetensors", record, record_metadata(task))
    write_text(folder / "history.csv", UNTRAINED_HISTORY)


def predict(task_file: Path, resources: Path) -> None:
    """Write predictions.json: probabilities of all seen classes for the images of test.json."""
    store = open_store(read_task(task_file), "test", resources)
    write_predictions(task_file, store, load_solved(task_file, store.width))


@dataclass(frozen=True)
class Vis:
    """The mixer, the random features and the linear scores of all seen classes."""

    mixer: Mixer
    maps: Maps
    scores: Linear

    def log_probabilities(self, features: Array) -> Array:
        """Return (N, K) of pooled tokens (L, N, d)."""
        return log_softmax(self.scores.logits(self.maps.hidden(self.mixer(features))))


def load_solved(task_file: Path, width: int) -> Vis:
    """Return the classifier as it stands after a task.

    Raises:
        InputError: if the record of a task is missing, damaged or of another method.
    """
    task = read_task(task_file)
    folders = task_folders(task_file) if previous_classes(task) else [task_file.parent]
    records = [read_record(folder / "weights.safetensors") for folder in folders]
    check_widths(records, folders, width)
    mixer, penalty = _first(folders[0], (None, None, width))
    options = VisOptions(**task["switches"])
    maps = _maps(options, task["seed"], width)
    try:
        sums = seen(maps, records, task_counts(task)).ridge
        return Vis(mixer, maps, one_against_all(sums, penalty / options.cost))
    except (KeyError, ValueError, IndexError) as error:
        expected = "records made by this task's method and switches"
        where = folders[0].parent
        raise InputError(f"records that do not fit ({error})", where, expected) from None


def _maps(options: VisOptions, seed: int, width: int) -> Maps:
    """Return the random features of mixed tokens."""
    return Maps(ClosedFormOptions(hidden=options.random_features, normalise=False), seed, width)


def _first(folder: Path, shape: tuple[int | None, int | None, int]) -> tuple[Mixer, float]:
    """Return the mixer and the penalty of the first task, fit for tokens (L, N, d)."""
    path = folder / "weights.safetensors"
    record = read_tensors(path, FIRST)
    mixer, (blocks, _, width) = Mixer.of(record), shape
    if len(mixer.u_bias) != width or (blocks is not None and len(mixer.scale) != blocks):
        what = f"a mixer of {len(mixer.scale)} blocks of width {len(mixer.u_bias)}"
        expected = f"width {width}, as this task's CLIP gives"
        raise InputError(what, path, expected)
    return mixer, float(record["penalty"][0])


def _draws(task: Task, purpose: str) -> np.random.Generator:
    """Return the draws of the first task for a purpose."""
    digest = hashlib.sha256(f"vis {task['seed']} {purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
