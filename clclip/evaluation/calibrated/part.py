"""``calibration.json`` beside a task's weights: the map and the thresholds of the task's classes.

It is made once, from images that training did not see, and frozen with the task: later tasks read
it and change nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clclip.core.errors import InputError
from clclip.core.files import read_object
from clclip.evaluation.calibrated.objective import Objective
from clclip.evaluation.calibrated.rows import Rows
from clclip.evaluation.calibrated.score_map import ScoreMap, fit_map
from clclip.evaluation.calibrated.thresholds import NEVER, choose

logger = logging.getLogger(__name__)

FILE = "calibration.json"
LEAST_OBJECTS = 20
"""A class with fewer takes the offset (none) and the threshold of its task."""


def calibrate_part(rows: Rows, classes: Sequence[str], objective: Objective) -> dict[str, Any]:
    """Return the calibration of the classes of one task as it stands in its file.

    A class that has enough objects, but no threshold that serves the objective, takes its task's
    threshold, with a warning of what that gives.

    Args:
        rows: detections of these classes, and perhaps of others.
        classes: the classes of the task.
        objective: what thresholds are chosen for.

    Returns:
        {"slope", "intercept", "objective", "images", "classes": {name: {"offset", "threshold",
        "objects", "own": whether the threshold is the class's own, not its task's}},
        "thresholds": {name: threshold}}; thresholds are on the mapped scores.
    """
    columns = [k for k, name in enumerate(rows.names) if name in set(classes)]
    names = [rows.names[k] for k in columns]
    scores = np.array([rows.scores[k] for k in columns], dtype=np.float64)
    right = np.array([rows.right[k] for k in columns], dtype=bool)
    objects = {name: int(rows.objects.get(name, 0)) for name in classes}
    own = [name for name in classes if objects[name] >= LEAST_OBJECTS]
    line = fit_map(scores, right, names, own)
    mapped, label = np.zeros(len(columns)), np.array(names, dtype=object)
    for name in classes:
        mapped[label == name] = line(scores[label == name], name)
    common = choose(mapped, right, sum(objects.values()), objective)
    by_class = {}
    for name in classes:
        mine, chosen = label == name, None
        threshold = NEVER if common is None else common
        if name in own:
            chosen = choose(mapped[mine], right[mine], objects[name], objective)
            if chosen is None:
                _warn(name, objective, threshold, right[mine & (mapped >= threshold)])
        by_class[name] = {
            "offset": line.offsets.get(name, 0.0),
            "threshold": threshold if chosen is None else chosen,
            "objects": objects[name],
            "own": chosen is not None,
        }
    return {
        "slope": line.slope,
        "intercept": line.intercept,
        "objective": str(objective),
        "images": rows.images,
        "classes": by_class,
        "thresholds": {name: entry["threshold"] for name, entry in by_class.items()},
    }


def _warn(name: str, objective: Objective, threshold: float, shown: np.ndarray) -> None:
    """Warn of a class that takes its task's threshold for want of one of its own."""
    lacks = "has no right detection"
    if objective.precision is not None:
        lacks = f"reaches a precision of {objective.precision:g} at no threshold"
    gives = f"{100 * shown.mean():.0f}% of its boxes are right" if shown.size else "none is shown"
    message = "class %r %s: it takes its task's %.3f, from which on %s"
    logger.warning(message, name, lacks, threshold, gives)


def read_part(folder: Path) -> dict[str, Any] | None:
    """Read the calibration beside a task's weights; None where there is none.

    Raises:
        InputError: if the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    part = read_object(path, ("slope", "intercept", "classes", "thresholds"), "calibrate")
    expected = "the file as `clclip calibrate` wrote it"
    numbers = [part["slope"], part["intercept"]]
    if not isinstance(part["classes"], dict):
        raise InputError("classes that are no object", path, expected)
    for name, entry in part["classes"].items():
        if not isinstance(entry, dict) or not {"offset", "threshold"} <= entry.keys():
            raise InputError(f"class {name!r:.60}", path, expected)
        numbers += [entry["offset"], entry["threshold"]]
    wrong = [n for n in numbers if isinstance(n, bool) or not isinstance(n, int | float)]
    if wrong or not np.isfinite(numbers).all() or part["slope"] <= 0:
        raise InputError(f"a number {(wrong or numbers)[0]!r:.60}", path, expected)
    return part


def map_of(part: Mapping[str, Any]) -> ScoreMap:
    """Return the map that a calibration holds."""
    offsets = {name: float(entry["offset"]) for name, entry in part["classes"].items()}
    return ScoreMap(float(part["slope"]), float(part["intercept"]), offsets)


@dataclass(frozen=True)
class Calibrated:
    """The calibrations of the parts of a model, class by class.

    Attributes:
        maps: class -> its part's map.
        thresholds: class -> its threshold on the mapped score.
    """

    maps: Mapping[str, ScoreMap]
    thresholds: Mapping[str, float]

    def scores(self, scores: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return scores (N,) of the classes ``names[labels]``, mapped where there is a map."""
        mapped = np.asarray(scores, dtype=np.float64).copy()
        for k, name in enumerate(names):
            if name in self.maps and (own := labels == k).any():
                mapped[own] = self.maps[name](mapped[own], name)
        return mapped


def read_parts(folders: Sequence[Path]) -> Calibrated:
    """Read the calibrations of a model's parts, given the folders of their weights.

    Raises:
        InputError: if a file is damaged.
    """
    maps: dict[str, ScoreMap] = {}
    thresholds: dict[str, float] = {}
    for folder in folders:
        if (part := read_part(folder)) is not None:
            line = map_of(part)
            for name, entry in part["classes"].items():
                maps[name], thresholds[name] = line, float(entry["threshold"])
    return Calibrated(maps, thresholds)
