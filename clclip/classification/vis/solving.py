"""VIS's classifier from sums: one against all, targets +1 and -1, with a bias.

With ``t = sum phi`` and N images, ``p = [phi; 1]`` has the Gram matrix ``[[G, t], [t^T, N]]``, and
a class with the sum ``c`` of its n images' phi the right side ``[2 c - t; 2 n - N]``: images of
other classes count -1, those of earlier tasks too. So VIS needs the sums of a ridge, no more.
"""

from __future__ import annotations

import numpy as np

from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.maps import Hidden
from clclip.classification.closed_form.solver import solve
from clclip.classification.closed_form.sums import Sums, one_hot

Array = np.ndarray

PENALTIES = 10.0 ** np.linspace(-6, 4, 16)
"""Penalties among which the first task chooses."""

HELD_OUT = 0.2
SCALE = 5.0  # factor on scores, which lie near -1 and 1, before the softmax


def one_against_all(sums: Sums, penalty: float) -> Linear:
    """Return ``(penalty I + G) W = Q`` of targets +1 and -1, with a bias.

    Args:
        sums: of phi.
        penalty: lambda / C.
    """
    total, images = sums.cross.sum(axis=1), sums.images
    size = len(sums.gram)
    gram = np.empty((size + 1, size + 1))
    gram[:size, :size], gram[size, size] = sums.gram, images
    gram[size, :size] = gram[:size, size] = total
    cross = np.vstack([2 * sums.cross - total[:, None], 2 * sums.counts - images])
    weights = solve(gram, cross, penalty)
    return Linear(weights[:size], weights[size], SCALE)


def chosen_penalty(
    hidden: Hidden, mixed: Array, labels: Array, cost: float, draws: np.random.Generator
) -> float:
    """Return the penalty of the smallest squared error on a fifth of the first task's images.

    Args:
        hidden: the random features.
        mixed: (N, d) of the task's images.
        labels: (N,) among its classes.
        cost: C.
        draws: of the fifth.
    """
    classes = int(labels.max()) + 1
    order = draws.permutation(len(labels))
    split = len(order) - max(1, round(HELD_OUT * len(order)))
    used, held = order[:split], order[split:]
    sums = Sums.of(hidden(mixed[used]), labels[used], classes)
    seen, targets = hidden(mixed[held]), 2 * one_hot(labels[held], classes) - 1

    def error(penalty: float) -> float:
        fitted = one_against_all(sums, penalty / cost)
        return float(np.square(seen @ fitted.weights + fitted.bias - targets).mean())

    return min(map(float, PENALTIES), key=error)
