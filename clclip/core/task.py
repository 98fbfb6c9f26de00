"""``task.json``: the resolved plan of one task, the only configuration that later stages read.

Separate from ``clclip.workflow.plan`` so that a stage which reads its task does not depend on how
plans are made: the fingerprint of its code then changes with this file alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from clclip.core.artifacts import KIND_NAMES, Task
from clclip.core.errors import InputError
from clclip.core.files import read_json

KEYS = (
    "kind method seed task groups text data clip training switches evaluation".split()
)  # besides "features" for detection, and "trains": "all" where no class waits for a later task

RUNTIME_KEYS = ("cache_features", "devices", "nodes")
"""Training keys that do not affect results: jobs get them as options, task.json never."""


def read_task(path: Path) -> Task:
    """Read and check a task file.

    Raises:
        InputError: if the file is missing, is not JSON or lacks a key.
    """
    task = read_json(path)
    check_task(task, path)
    return cast(Task, task)


def check_task(task: Any, where: object) -> None:
    """Raise InputError unless ``task`` has the keys of a task file, of the right types."""
    if not isinstance(task, dict):
        raise InputError(f"got {type(task).__name__}", where, "the JSON object of a task")
    for key in KEYS:
        if key not in task:
            raise InputError(f"missing key {key!r}", where, "a file made by `clclip resolve`")
    groups = task["groups"]
    if not (isinstance(groups, list) and groups and all(map(_is_group, groups))):
        raise InputError(f"got groups {groups!r:.60}", where, "non-empty lists of class names")
    if type(task["task"]) is not int or task["task"] < 1:
        raise InputError(f"got task {task['task']!r:.60}", where, "a number from 1")
    names = [name for group in groups for name in group]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"class {twice!r} twice", where, "each class in one group")
    if type(task["seed"]) is not int:
        raise InputError(f"got seed {task['seed']!r:.60}", where, "a whole number")
    if task.get("trains", "all") != "all":
        raise InputError(f"got trains {task['trains']!r:.60}", where, "all, or the key left out")
    number = 1 if "trains" in task else len(groups)
    if task["task"] != number:
        raise InputError(f"got task {task['task']}", where, f"{number}, as its groups tell")
    if task["kind"] not in KIND_NAMES:
        raise InputError(f"got kind {task['kind']!r:.60}", where, " or ".join(KIND_NAMES))
    for key in ("text", "data", "clip", "training", "switches", "evaluation"):
        if not isinstance(task[key], dict):
            raise InputError(f"got {task[key]!r:.60}", f"{where}: {key}", "an object")
    for key in ("data", "clip"):
        name = task[key].get("id")
        if not isinstance(name, str) or not name or Path(name).name != name or "\0" in name:
            raise InputError(f"got {name!r:.60}", f"{where}: {key}.id", "the name of a folder")


def _is_group(group: Any) -> bool:
    """Tell whether ``group`` is a non-empty list of names."""
    return isinstance(group, list) and bool(group) and all(isinstance(n, str) for n in group)


def has_boxes(record: Mapping[str, Any]) -> bool:
    """Tell whether a task, a data index, a summary or a card is of detection: labels are boxes."""
    return record.get("kind") == "detection"


def trains_all(task: Task) -> bool:
    """Tell whether a task trains all classes of the stream at once: an upper bound."""
    return task.get("trains") == "all"


def previous_classes(task: Task) -> list[str]:
    """Return the classes of earlier tasks, in order; none where all are trained at once."""
    if trains_all(task):
        return []
    return [name for group in task["groups"][:-1] for name in group]


def current_classes(task: Task) -> list[str]:
    """Return the classes that this task trains; all of them where ``trains_all`` says so."""
    return seen_classes(task)[len(previous_classes(task)) :]


def seen_classes(task: Task) -> list[str]:
    """Return all classes up to this task: column k of every score matrix is the k-th of these."""
    return [name for group in task["groups"] for name in group]


def text_names(task: Task) -> list[str]:
    """Return the text of each seen class: its name unless the task gives another."""
    return [task["text"].get(name, name) for name in seen_classes(task)]


def task_folders(task_file: Path) -> list[Path]:
    """Return the folders of tasks 1..t, this one last."""
    number = read_task(task_file)["task"]
    return [task_file.parent.parent / f"task{k}" for k in range(1, number + 1)]


def data_dir(task: Task, resources: Path) -> Path:
    """Return the folder of the indexed data set."""
    return resources / "data" / task["data"]["id"]


def clip_dir(task: Task, resources: Path) -> Path:
    """Return the folder of the CLIP."""
    return resources / "clip" / task["clip"]["id"]


def features_dir(task: Task, split: str, resources: Path) -> Path | None:
    """Return the feature store of a split, or None when the task computes features as it goes."""
    features = task.get("features")
    if not features or not features["cache"]:
        return None
    return resources / "features" / features["id"] / split


def find_task(run: Path, task: int | None) -> Path:
    """Return the task.json of a trained task of a run; the last one by default.

    Raises:
        InputError: if the run has no such trained task.
    """
    trained = sorted(
        int(path.parent.name.removeprefix("task"))
        for path in run.glob("task*/weights.safetensors")
        if path.parent.name.removeprefix("task").isdigit()
    )
    if not trained:
        expected = "a folder results/EXPERIMENT/seedN of a finished run"
        raise InputError("no trained task", run, expected)
    if task is not None and task not in trained:
        raise InputError(f"task {task}", "--task", f"one of {', '.join(map(str, trained))}")
    return run / f"task{task or trained[-1]}" / "task.json"


def resources_of(run: Path) -> Path:
    """Return the folder ``resources`` beside the ``results`` that a run lies in.

    Where there is none, because the run was copied elsewhere, that of the working directory.
    """
    for place in (Path(os.path.abspath(run)), run.resolve()):  # as it is named, then as linked
        beside = place.parent.parent.parent / "resources"  # results/EXPERIMENT/seedN
        if beside.is_dir():
            return beside
    return Path("resources")
