"""Calibration: is a score of 0.8 right in four cases of five, for old classes as for new ones?

Detections (or classified images) are gathered by their score; in each bin the mean score is set
against the share that is right. An old class whose scores fell below their share was relegated: it
still sees, but is outranked. One whose scores stand above their share claims what it no longer
knows. The expected calibration error is the mean distance of the two, weighted by the bins' sizes
(Naeini et al. 2015; for detections Küppers et al. 2020, here without the box's place).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clclip.core.artifacts import Task
from clclip.core.files import read_json
from clclip.core.task import has_boxes, read_task, seen_classes, task_folders
from clclip.evaluation.calibrated.part import read_parts
from clclip.evaluation.matching import Matching
from clclip.evaluation.predictions import class_ids, read_detections, read_probabilities
from clclip.evaluation.score import parts

BINS = 10
LEAST_SCORE = 0.05
"""Detections below are left out: there are thousands, all wrong and all said to be so."""


@dataclass(frozen=True)
class Bin:
    """Detections of similar scores: how many, their mean score, the share that is right."""

    count: int
    score: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """The calibration of a group of classes.

    Attributes:
        bins: those that hold something, by rising score.
        count: detections in all.
        error: expected calibration error, in points.
        gap: mean score minus share right, in points; above 0 is overconfident.
    """

    bins: list[Bin]
    count: int
    error: float
    gap: float


def reliability(scores: Sequence[float], right: Sequence[bool]) -> Reliability | None:
    """Return the reliability of scores in [0, 1] (clipped); None without any.

    Raises:
        ValueError: if there are not as many scores as answers.
    """
    score = np.clip(np.asarray(scores, dtype=np.float64), 0.0, 1.0)
    hit = np.asarray(right, dtype=bool)
    if score.shape != hit.shape:
        raise ValueError(f"{score.size} scores for {hit.size} answers")
    if not score.size:
        return None
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    bins = [
        Bin(int(own.sum()), float(score[own].mean()), float(hit[own].mean()))
        for own in (place == k for k in range(BINS))
        if own.any()
    ]
    error = sum(b.count * abs(b.score - b.right) for b in bins) / score.size
    gap = float(score.mean() - hit.mean())
    return Reliability(bins, int(score.size), 100 * error, 100 * gap)


def calibration(*task_files: Path, mapped: bool = False) -> dict[str, Reliability | None]:
    """Return the reliability of scores after a task, for "previous" and "current" classes.

    The same task of several seeds is pooled.

    A detection belongs to the class that it names, and is right if it finds an object (IoU 0.5);
    those on crowd or difficult objects do not count. An image belongs to the class that it was
    given, with that class's probability as score. ``joint`` is grouped by the final task's groups.

    Args:
        task_files: task.json of the task, of one seed or several.
        mapped: of the scores that ``calibration.json`` of each class's task makes of the model's.

    Raises:
        InputError: if predictions or the test list are missing or broken.
    """
    rows: list[tuple[str, float, bool]] = []
    for task_file in task_files:
        task = read_task(task_file)
        if has_boxes(task):
            rows += _detections(task, task_file.parent, mapped)
        else:
            rows += _images(task, task_file.parent)
    groups = parts(task["groups"])
    result = {}
    for word, part in (("previous", "P"), ("current", "C")):
        own = [(score, right) for name, score, right in rows if name in set(groups[part])]
        result[word] = reliability([score for score, _ in own], [right for _, right in own])
    return result


def _detections(task: Task, folder: Path, mapped: bool = False) -> list[tuple[str, float, bool]]:
    """Return (class, score, right) of every detection that counts."""
    truth = read_json(folder / "test.json")
    ids = class_ids(truth, seen_classes(task), folder / "test.json")
    rows = read_detections(folder / "predictions.json", truth, ids)
    pairs = Matching(truth, rows, ids).pair()
    names = list(ids)
    column = {category: k for k, category in enumerate(ids.values())}
    labels = np.array(
        [column[detection["category_id"]] for detection in pairs.detections], dtype=np.int64
    )
    scores = np.array([detection["score"] for detection in pairs.detections], dtype=np.float64)
    if mapped:
        scores = read_parts(task_folders(folder / "task.json")).scores(scores, labels, names)
    return [
        (names[label], float(score), bool(partner >= 0))
        for label, score, partner in zip(labels, scores, pairs.partner, strict=True)
        if score >= LEAST_SCORE
    ]


def _images(task: Task, folder: Path) -> list[tuple[str, float, bool]]:
    """Return (class given, its probability, right) of every test image."""
    names = seen_classes(task)
    truth = read_json(folder / "test.json")
    labels, given = read_probabilities(folder / "predictions.json", truth, names)
    rows = read_json(folder / "predictions.json")["probabilities"]
    return [
        (name, float(max(row)), name == label)
        for name, label, row in zip(given, labels, rows, strict=True)
    ]
