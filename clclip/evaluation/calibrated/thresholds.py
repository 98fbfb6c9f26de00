"""The score from which on a class's detections are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clclip.evaluation.calibrated.objective import Objective

NEVER = 1.0


def choose(
    scores: Sequence[float] | np.ndarray,
    right: Sequence[bool] | np.ndarray,
    objects: int,
    objective: Objective,
) -> float | None:
    """Return the threshold that serves the objective best on these detections.

    It lies halfway between the lowest score that is shown and the next below (or 0). For a
    precision it is the lowest that reaches it, so that no object is given away for nothing.

    Args:
        scores: (N,) in [0, 1].
        right: (N,) whether each matched an object.
        objects: number of objects.
        objective: f1 or a precision.

    Returns:
        The threshold; None where no detection is right, or none reaches the precision.
    """
    score, hit = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    order = np.argsort(-score, kind="stable")
    score, hit = score[order], hit[order]
    hits, shown = np.cumsum(hit), np.arange(1, len(hit) + 1)
    last = np.flatnonzero(np.diff(score, append=-1.0))  # equal scores are shown together
    hits, shown = hits[last], shown[last]
    if not len(last) or not hits[-1]:
        return None
    if objective.precision is None:
        place = int(np.argmax(2 * hits / (shown + objects)))
    else:
        good = np.flatnonzero(hits / shown >= objective.precision - 1e-12)
        if not len(good):
            return None
        place = int(good[-1])
    lowest = score[last[place]]
    below = score[last[place] + 1] if last[place] + 1 < len(score) else 0.0
    return float((lowest + below) / 2)
