"""Scores of one task: AP or accuracy per class, and P, C, A (previous, current, all seen classes).

Torch-free: numpy and faster-coco-eval only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.core.artifacts import Task, read_stage_file
from clclip.core.errors import InputError
from clclip.core.files import write_json
from clclip.core.task import read_task
from clclip.evaluation.ap import COCO_IOUS, METRIC_NAMES, average_precision
from clclip.evaluation.continual import mean, weighted_mean
from clclip.evaluation.interval import accuracy_interval
from clclip.evaluation.matching import ClassMatches, Matching
from clclip.evaluation.predictions import class_ids, read_detections, read_probabilities

logger = logging.getLogger(__name__)


def score(task_file: Path) -> None:
    """Score the predictions beside ``task_file``: write scores.json.

    scores.json: ``metrics`` {P, C, A} and ``per_class`` {name: {``score``, ``objects``}}, scores in
    percent (null: nothing to measure), ``objects`` the class's test objects (classification: test
    images), ``metric`` the score's name, ``images`` which test images count, ``empty_classes``
    those without any object.

    Raises:
        InputError: if a file is missing or the predictions do not fit the test split.
    """
    task = read_task(task_file)
    scores = SCORERS[task["kind"]](task, task_file.parent)
    for name in scores["empty_classes"]:
        logger.warning("class %r has no test instances: left out of all means", name)
    write_json(task_file.parent / "scores.json", scores, indent=1)


def parts(groups: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return the classes behind P, C and A; for ``joint`` they are the final task's groups."""
    previous = [name for group in groups[:-1] for name in group]
    current = list(groups[-1])
    return {"P": previous, "C": current, "A": previous + current}


def score_detection(task: Task, folder: Path) -> dict[str, Any]:
    """Return scores.json of a detection task.

    ``evaluation.images``: ``full`` scores every class on all test images; ``group`` scores P, C
    and A each on the images that hold an object of its classes, so A may lie outside P..C.
    per_class then takes a class on the images of its own task's group: those stay the same images
    when tasks are added, so that a detector that does not change forgets nothing.
    """
    groups = parts(task["groups"])
    settings = task.get("evaluation", {})
    metric, images = settings.get("ap", "voc_area"), settings.get("images", "full")
    if metric not in METRIC_NAMES:
        raise InputError(f"ap {metric!r}", folder / "task.json", f"one of {sorted(METRIC_NAMES)}")
    truth = read_stage_file(folder / "test.json", "boxes")
    ids = class_ids(truth, groups["A"], folder / "test.json")
    detections = read_detections(folder / "predictions.json", truth, ids)
    matching = Matching(truth, detections, ids)
    matches = matching.match()

    def scores_on(chosen: set[int] | None, names: list[str]) -> dict[str, dict[str, Any]]:
        result: dict[str, dict[str, Any]] = {
            key: {name: _percent(matches[name], key, chosen) for name in names}
            for key in METRIC_NAMES
            if key != "coco"
        }
        return result | {"coco": _over_overlaps(matching, chosen)}

    # seconds on a large test set, and the same for all parts on the same images
    every = scores_on(None, groups["A"]) if images == "full" else None

    def scores_of(names: list[str]) -> dict[str, dict[str, Any]]:
        return every or scores_on(images_with(truth, [ids[name] for name in names]), names)

    others: dict[str, dict[str, float | None]] = {name: {} for name in METRIC_NAMES}
    for part, names in groups.items():
        for key, values in scores_of(names).items():
            others[key][part] = mean([values[name] for name in names])
    metrics = dict(others[metric])
    per_class: dict[str, float | None] = {}
    for names in task["groups"]:
        values = scores_of(names)[metric]
        per_class |= {name: values[name] for name in names}
    counts = {name: int(matches[name].object_images.size) for name in groups["A"]}
    return {
        "metrics": metrics,
        "per_class": _entries({name: per_class[name] for name in groups["A"]}, counts),
        "metric": METRIC_NAMES[metric],
        "images": images,
        "other_metrics": {METRIC_NAMES[other]: row for other, row in others.items()},
        "empty_classes": [name for name, count in counts.items() if count == 0],
    }


def _entries(
    scores: Mapping[str, float | None], counts: Mapping[str, int]
) -> dict[str, dict[str, float | int | None]]:
    """Return what scores.json holds of each class."""
    return {name: {"score": value, "objects": counts[name]} for name, value in scores.items()}


def _percent(matches: ClassMatches, metric: str, images: set[int] | None) -> float | None:
    """Return one class's AP at one IoU, in percent."""
    if images is not None:
        matches = matches.within(images)
    value = average_precision(matches.true_positive, matches.object_images.size, metric)
    return None if value is None else 100 * value


def _over_overlaps(matching: Matching, images: set[int] | None) -> dict[str, float | None]:
    """Return every class's AP[.50:.95] in percent."""
    values = matching.average_precision(COCO_IOUS, images)
    return {name: None if value is None else 100 * value for name, value in values.items()}


def images_with(truth: Mapping[str, Any], categories: list[int]) -> set[int]:
    """Return the places of the images that hold an object of one of the categories."""
    holding = {a["image_id"] for a in truth["annotations"] if a["category_id"] in categories}
    return {index for index, image in enumerate(truth["images"]) if image["id"] in holding}


def score_classification(task: Task, folder: Path) -> dict[str, Any]:
    """Return scores.json of a classification task: accuracies over images, all seen classes."""
    groups = parts(task["groups"])
    truth = read_stage_file(folder / "test.json", "labels")
    labels, predicted = read_probabilities(folder / "predictions.json", truth, groups["A"])
    counts = dict.fromkeys(groups["A"], 0)
    right = dict.fromkeys(groups["A"], 0)
    for label, guess in zip(labels, predicted, strict=True):
        counts[label] += 1
        right[label] += label == guess
    per_class = {name: 100 * right[name] / n if n else None for name, n in counts.items()}
    return {
        "metrics": {
            part: weighted_mean([per_class[n] for n in names], [counts[n] for n in names])
            for part, names in groups.items()
        },
        "per_class": _entries(per_class, counts),
        "interval": accuracy_interval(sum(right.values()), len(labels)),
        "metric": "accuracy",
        "images": "full",
        "empty_classes": [name for name, count in counts.items() if count == 0],
    }


SCORERS = {"detection": score_detection, "classification": score_classification}
