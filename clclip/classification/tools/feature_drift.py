"""How far later tasks have moved the features of earlier tasks' images (``clclip feature-drift``).

The drift of a task's classes after task t is the mean of 100 (1 - cos(f_t(x), f_s(x))), hundredths
of a cosine, over their test images x, where f_s is the adapted feature at the end of the classes'
own task s. Distillation is meant to reduce it: prompts of task s were trained on f_s and are
applied to f_t.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from clclip.classification.classifier import EVAL_BATCH, load_classifier
from clclip.classification.pixels import over_batches
from clclip.classification.registry import METHODS
from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError
from clclip.core.files import write_json
from clclip.core.task import has_boxes, read_task

logger = logging.getLogger(__name__)


def feature_drift(run: Path, resources: Path) -> list[dict[str, Any]]:
    """Return the drift of every earlier task's classes after each task but the first.

    Args:
        run: a folder ``results/EXPERIMENT/seedN`` whose tasks are all trained.
        resources: folder of data sets and CLIPs.

    Returns:
        rows {"task": t, "drift": mean over the images of earlier tasks, "per_task": one mean for
        each of the tasks 1..t-1, None for a task without test images}, in hundredths of a cosine.

    Raises:
        InputError: if the run is no classification of at least two tasks, or a file is missing.
    """
    trained = len(list(run.glob("task*/weights.safetensors")))
    if trained < 2:
        raise InputError(f"{trained} trained tasks", run, "a run of at least two tasks")
    last = run / f"task{trained}"
    task = read_task(last / "task.json")
    if has_boxes(task):
        raise InputError(f"kind {task['kind']!r}", last / "task.json", "a classification run")
    if METHODS[task["method"]].closed_form:
        what = f"method {task['method']!r}, whose features are frozen"
        raise InputError(what, last / "task.json", "a run that trains adapters")
    split = read_stage_file(last / "test.json", "labels")
    owner = {name: number for number, group in enumerate(task["groups"]) for name in group}
    rows_of = [
        [n for n, image in enumerate(split["images"]) if owner[image["label"]] == number]
        for number in range(trained)
    ]
    features_then: list[Tensor] = []
    rows = []
    for number in range(trained):
        features = _features(run / f"task{number + 1}" / "task.json", split, resources)
        features_then.append(features[rows_of[number]])
        if number:
            gaps = [
                100 * (1 - (features[rows_of[s]] * features_then[s]).sum(dim=1))  # rows of length 1
                for s in range(number)
            ]
            rows.append(_row(number + 1, gaps))
            logger.info("after task %d: mean drift %s", number + 1, rows[-1]["drift"])
    return rows


def _row(task: int, gaps: list[Tensor]) -> dict[str, Any]:
    count = sum(len(gap) for gap in gaps)
    return {
        "task": task,
        "drift": sum(float(gap.sum()) for gap in gaps) / count if count else None,
        "per_task": [float(gap.mean()) if len(gap) else None for gap in gaps],
    }


def _features(task_file: Path, split: dict[str, Any], resources: Path) -> Tensor:
    """Return unit features (N, d) of the split's images as the tower stood after a task."""
    classifier = load_classifier(task_file, resources)
    pixels = classifier.pixels_of(split, read_task(task_file), resources)
    return over_batches(
        len(pixels), EVAL_BATCH, lambda rows: classifier.features(pixels[rows]).cpu()
    )


def measure(run: Path, resources: Path, out: Path | None = None) -> str:
    """Return a table of ``feature_drift`` for people, and write the same rows as JSON."""
    rows = feature_drift(run, resources)
    if out is not None:
        write_json(out, rows, indent=1)

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    lines = [f"{run}: 100 x (1 - cosine) of test features since their own task, mean over images"]
    lines.append(f"{'after task':>10}  {'mean':>6}  by task of origin")
    for row in rows:
        own = "  ".join(f"{shown(value):>5}" for value in row["per_task"])
        lines.append(f"{row['task']:>10}  {shown(row['drift']):>6}  {own}")
    return "\n".join(lines)
