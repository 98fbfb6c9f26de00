"""Why a class lost average precision between two tasks.

*Before* are the predictions of the task with the class's best AP so far, *after* those of a later
task. Every difference between them has one cause (see ``causes.py``).

How many points each cause is worth: give back the earlier version of some causes' differences,
keep the later one of the others, and compute the AP of the mixture. With nothing given back it is
the later AP, with everything the earlier one. A cause's share is its Shapley value over these
mixtures: the mean gain of giving it back over all orders. Shares therefore sum to the loss exactly
and do not depend on an order of repair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.core.task import read_task, seen_classes, task_folders, trains_all
from clclip.evaluation.ap import average_precision
from clclip.evaluation.causes import (
    CAUSES,
    MATCH,
    RESTING,
    Element,
    Matched,
    matched,
    object_changes,
    wrong_changes,
)
from clclip.evaluation.predictions import class_ids, read_detections


def diagnose(task_file: Path) -> dict[str, Any]:
    """Return the causes of every earlier class's loss at this task.

    Returns:
        {"task", "iou", "proposals": whether they were there, "classes": {name: {"earlier_task",
        "before", "after", "lost", "causes": {cause: points}}}}, in percent. Task 1 has no earlier
        classes.

    Raises:
        InputError: if predictions or test lists are missing or broken.
    """
    task = read_task(task_file)
    folder, earlier = task_file.parent, task_folders(task_file)[:-1]
    result: dict[str, Any] = {"task": task["task"], "iou": MATCH, "proposals": False, "classes": {}}
    if not earlier or trains_all(task):
        return result
    truth = read_json(folder / "test.json")
    ids = class_ids(truth, seen_classes(task), folder / "test.json")
    after = matched(truth, read_detections(folder / "predictions.json", truth, ids), ids)
    proposals = read_proposals(folder / "proposals.json")
    result["proposals"] = proposals is not None
    befores = []
    for past in earlier:
        known = {name: ids[name] for name in seen_classes(read_task(past / "task.json"))}
        rows = read_detections(past / "predictions.json", truth, known)
        befores.append(matched(truth, rows, known))
    for number, group in enumerate(task["groups"][:-1]):
        later = {ids[name] for group in task["groups"][number + 1 :] for name in group}
        for name in group:
            past_scores = (
                _ap(_versions(run, ids[name]), run, ids[name]) for run in befores[number:]
            )
            scores = [score for score in past_scores if score is not None]
            now = _ap(_versions(after, ids[name]), after, ids[name])
            if not scores or now is None:  # no test instance of the class
                continue
            best = number + max(range(len(scores)), key=lambda k: (scores[k], -k))
            causes = split_loss(befores[best], after, ids[name], later, proposals)
            result["classes"][name] = {
                "earlier_task": best + 1,
                "before": 100 * scores[best - number],
                "after": 100 * now,
                "lost": sum(causes.values()),
                "causes": causes,
            }
    return result


def read_proposals(path: Path) -> dict[str, float] | None:
    """Return annotation id -> best IoU with a proposal, or None if the file is not there.

    Objects on images where their path rested have ``RESTING``.
    """
    if not path.exists():
        return None
    try:
        content = read_json(path)
        overlaps = {str(key): float(value) for key, value in content["iou"].items()}
        return overlaps | {str(key): RESTING for key in content.get("resting", [])}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError("no overlaps", path, "a file that `clclip predict` wrote") from None


def split_loss(
    before: Matched,
    after: Matched,
    category: int,
    later: set[int],
    proposals: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the points of AP lost by each cause; a cause that did not occur is left out.

    Args:
        before: the earlier run.
        after: the later run, on the same test images.
        category: the class's category id.
        later: category ids of the classes that came after this class's own task ("new" ones).
        proposals: annotation id, as text -> best IoU with a proposal of the later task (its class's
            path); None if unknown.
    """
    elements = object_changes(before, after, category, later, proposals)
    elements += wrong_changes(before, after, category, later, proposals)
    counted = _count(after, category)
    changed = sorted({e[0] for e in elements if _differs(e)}, key=CAUSES.index)
    value = {
        given: average_precision(_mixture(elements, set(given)), counted) or 0.0
        for size in range(len(changed) + 1)
        for given in itertools.combinations(changed, size)
    }
    shares = {}
    for cause in changed:
        share = 0.0
        for given, ap in value.items():
            if cause in given:
                continue
            more = tuple(c for c in changed if c in given or c == cause)
            weight = math.factorial(len(given)) * math.factorial(len(changed) - len(given) - 1)
            share += weight / math.factorial(len(changed)) * (value[more] - ap)
        shares[cause] = 100 * share
    return shares


def _differs(element: Element) -> bool:
    """Whether an element's versions differ in more than their rank."""
    _, old, new = element
    return (old is None) != (new is None) or (
        old is not None and new is not None and old[0] != new[0]
    )


def _mixture(elements: Sequence[Element], given: set[str]) -> np.ndarray:
    """Return right or wrong along the ranked list in which some causes are taken back."""
    rows = [old if cause in given else new for cause, old, new in elements]
    ranked = sorted((-row[0], row[1], row[2]) for row in rows if row is not None)
    return np.array([right for *_, right in ranked], dtype=bool)


def _count(run: Matched, category: int) -> int:
    """Return the number of objects of a class that count."""
    objects = zip(run.pairs.objects, run.pairs.ignored, strict=True)
    return sum(item["category_id"] == category and not ignored for item, ignored in objects)


def _versions(run: Matched, category: int) -> np.ndarray:
    """Return right or wrong along a class's ranked list."""
    own = [i for i, d in enumerate(run.pairs.detections) if d["category_id"] == category]
    return run.pairs.partner[own] >= 0 if own else np.zeros(0, dtype=bool)


def _ap(ranked: np.ndarray, run: Matched, category: int) -> float | None:
    """Return a class's AP (area) in a run."""
    return average_precision(ranked, _count(run, category))
