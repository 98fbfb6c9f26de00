"""Joining two halves of a classifier: their calibration and weight are fitted, never assumed.

Two halves whose scores differ in sharpness throw each other away when they are averaged: a
discriminant of 90.6 % and a text half of 28.8 % made 44.9 % at equal weight. So the joint logits
are ``a first + b second`` with (a, b) of the smallest cross-entropy on images that neither half has
seen, five folds of them; sums make a fold cheap, since leaving images out is a subtraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from clclip.classification.features.vectors import log_softmax

Array = np.ndarray

FIRST_FACTORS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
SECOND_FACTORS = (0.0, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


class Balance(NamedTuple):
    """Factors on the logits of the two halves."""

    first: float
    second: float


USUAL = Balance(0.5, 0.2)
"""Of the joined classifier, where no task has kept images to fit it on."""


def joined_logits(first: Array, second: Array, balance: Balance) -> Array:
    """Return logits (N, K) of the two halves' (N, K)."""
    return balance.first * first + balance.second * second


def fitted_balance(first: Array, second: Array, labels: Array) -> Balance:
    """Return the factors of the smallest cross-entropy of logits (N, K) on labels (N,)."""
    rows = np.arange(len(labels))
    best, best_balance = np.inf, USUAL
    for a in FIRST_FACTORS:
        for b in SECOND_FACTORS:
            if a == b == 0:
                continue
            balance = Balance(a, b)
            loss = -log_softmax(joined_logits(first, second, balance))[rows, labels].mean()
            if loss < best - 1e-9:
                best, best_balance = float(loss), balance
    return best_balance


def out_of_fold(
    folds: Array, classes: int, scores: Sequence[Callable[[Array], Array]]
) -> list[Array]:
    """Return the logits (N, K) of images by classifiers that were fitted without their fold.

    Args:
        folds: (N,) fold of each image.
        classes: number K.
        scores: per half, from the mask (N,) of the images left out to their logits.
    """
    tables = [np.zeros((len(folds), classes)) for _ in scores]
    for fold in np.unique(folds):
        out = folds == fold
        for table, score in zip(tables, scores, strict=True):
            table[out] = score(out)
    return tables
