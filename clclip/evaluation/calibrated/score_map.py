"""The map from a detector's scores to the share that is right.

p = sigmoid(slope * logit(score) + intercept + offset of the class): Platt's scaling (1999) on the
log-odds, one slope and intercept for the classes of a task, and per class an offset that is drawn
to 0 by a penalty, the more so the less was seen of the class. With a slope above 0 the map rises
strictly, so no class's ranking changes, nor its AP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

SHRINKAGE = 5.0
"""Weight of half the squared offset: as much as some 20 detections whose outcome is open."""

LEAST_SLOPE = 1e-3
EDGE = 1e-7  # scores are single-precision numbers: none but 0 and 1 lies nearer to 0 or 1
_STEPS = 100


@dataclass(frozen=True)
class ScoreMap:
    """A fitted map.

    Attributes:
        slope: above 0.
        intercept: in log-odds.
        offsets: class -> what is added for it, in log-odds; 0 where it has none.
    """

    slope: float
    intercept: float
    offsets: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, scores: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
        """Return the shares right, (N,) float64, for scores (N,) in [0, 1] of a class."""
        odds = self.slope * logit(scores) + self.intercept + self.offsets.get(name, 0.0)
        return sigmoid(odds)


def logit(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the log-odds of scores in [0, 1]."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), EDGE, 1 - EDGE)
    return np.log(inside) - np.log1p(-inside)


def sigmoid(odds: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-odds)), exact at both ends."""
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1 / (1 + small), small / (1 + small))


def fit_map(
    scores: Sequence[float] | np.ndarray,
    right: Sequence[bool] | np.ndarray,
    names: Sequence[str],
    own: Sequence[str] = (),
    shrinkage: float = SHRINKAGE,
) -> ScoreMap:
    """Fit the map to detections by penalised maximum likelihood (Newton's method).

    Args:
        scores: (N,) in [0, 1].
        right: (N,) whether each matched an object.
        names: (N,) the class that each names.
        own: classes that get an offset; the others share the task's line.
        shrinkage: weight of half the squared offsets.

    Returns:
        The map; the identity without a right and a wrong detection, which fix no line.

    Raises:
        ValueError: if the three are not as long as each other.
    """
    hit = np.asarray(right, dtype=np.float64)
    odds = logit(scores)
    if not odds.shape == hit.shape == (len(names),):
        raise ValueError(f"{odds.size} scores, {hit.size} answers, {len(names)} names")
    if not hit.any() or hit.all():
        return ScoreMap(1.0, 0.0)
    column = {name: k for k, name in enumerate(own)}
    inputs = np.zeros((odds.size, 2 + len(column)))
    inputs[:, 0], inputs[:, 1] = odds, 1.0
    for row, name in enumerate(names):
        if name in column:
            inputs[row, 2 + column[name]] = 1.0
    # the slope's faint pull to 1 keeps it finite where scores part right from wrong without fault
    penalty = np.array([1e-2, 1e-9, *[shrinkage] * len(column)])
    start = np.array([1.0, 0.0, *[0.0] * len(column)])
    weights = _newton(inputs, hit, penalty, start)
    if (
        weights[0] < LEAST_SLOPE
    ):  # scores that say nothing, or the opposite: only their level counts
        inputs[:, 0] = LEAST_SLOPE * odds
        fixed = _newton(inputs, hit, np.array([1e9, *penalty[1:]]), start)
        weights = np.array([LEAST_SLOPE, *fixed[1:]])
    offsets = {name: float(weights[2 + k]) for name, k in column.items()}
    return ScoreMap(float(weights[0]), float(weights[1]), offsets)


def _newton(
    inputs: np.ndarray, hit: np.ndarray, penalty: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Minimise the logistic loss plus ``penalty / 2 * (weights - start)^2``; steps are halved."""

    def loss(weights: np.ndarray) -> float:
        odds = inputs @ weights
        losses = np.logaddexp(0, odds) - hit * odds
        return float(losses.sum() + (penalty * (weights - start) ** 2).sum() / 2)

    weights, now = start.copy(), loss(start)
    for _ in range(_STEPS):
        share = sigmoid(inputs @ weights)
        slope = inputs.T @ (share - hit) + penalty * (weights - start)
        curvature = (inputs * (share * (1 - share))[:, None]).T @ inputs + np.diag(penalty)
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(weights)), slope)
        scale = 1.0
        while (after := loss(weights - scale * step)) > now and scale > 1e-6:
            scale /= 2
        if after >= now:
            break
        weights, gained, now = weights - scale * step, now - after, after
        if gained < 1e-10 * (1 + now):
            break
    return weights
