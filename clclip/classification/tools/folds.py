"""Closed-form classifiers scored by five folds of images, as many of them as the time allows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clclip.classification.closed_form import heads
from clclip.classification.closed_form.joining import fitted_balance, joined_logits
from clclip.classification.closed_form.learner import TEXT_SCALE
from clclip.classification.closed_form.maps import Hidden
from clclip.classification.closed_form.record import FOLDS
from clclip.classification.closed_form.solver import gcv_penalty, gcv_penalty_of_rows
from clclip.classification.closed_form.sums import Sums, one_hot
from clclip.classification.features.vectors import unit
from clclip.classification.registry import METHODS
from clclip.classification.tools.time_limit import Clock, TimeLimit

Array = np.ndarray

BY_FEATURES = ("ncm", "ridge", "gda")
BY_RANDOM_FEATURES = ("ranpac",)

_ROWS = 256  # of the product by which a machine is timed
# Multiplications, each of which takes about as long as one of that product (measured on two cores).
_EIGENVALUES = 8  # times n^3
_SOLVING = 1  # times n^3, a fold
_BALANCE = 3e4  # a score: 71 pairs of factors are tried


class CrossValidated(NamedTuple):
    """What the folds say.

    Attributes:
        tables: method -> scores (N, K); rows that were not held out are zero.
        rows: (N,) whether an image was held out by a fold that there was time for.
        folds: number of those folds.
    """

    tables: dict[str, Array]
    rows: Array
    folds: int


def cross_validated(
    features: Array, labels: Array, folds: Array, text: Array, limit: TimeLimit | None = None
) -> CrossValidated:
    """Return the scores of every candidate, and of ``gda_text``, by folds.

    Args:
        features: (N, d).
        labels: (N,) in 0..K-1.
        folds: (N,) each image is classified by models without its fold.
        text: (K, d) unit text embeddings.
        limit: no fold is begun after the first that would not end within it; None: all are.
    """
    classes, width = len(text), features.shape[1]
    ranpac = METHODS["ranpac"].defining
    spaces = [
        _Space(BY_FEATURES, Hidden(0, width, 0, True)(features), labels, classes),
        _Space(
            BY_RANDOM_FEATURES,
            Hidden(0, width, ranpac["hidden"], ranpac["normalise"])(features),
            labels,
            classes,
        ),
    ]
    rows, numbers, done, longest = np.zeros(len(labels), dtype=bool), np.unique(folds), 0, 0.0
    for number in numbers:
        if done and limit is not None and limit.left < longest:
            break
        begun = limit.taken if limit else 0.0
        out = folds == number
        for space in spaces:
            space.score(out)
        rows, done = rows | out, done + 1
        longest = max(longest, limit.taken - begun if limit else 0.0)
    tables = {name: table for space in spaces for name, table in space.tables.items()}
    tables["zeroshot"] = TEXT_SCALE * unit(features) @ text.T
    text_half, gda = tables["zeroshot"], tables["gda"]
    balance = fitted_balance(text_half[rows], gda[rows], labels[rows])
    tables["gda_text"] = joined_logits(text_half, gda, balance)
    return CrossValidated(tables, rows, done)


class _Space:
    """Features of one kind, their sums and the scores by the classifiers of these."""

    def __init__(self, names: tuple[str, ...], hidden: Array, labels: Array, classes: int) -> None:
        self.hidden, self.labels, self.classes = hidden, labels, classes
        self.whole = Sums.of(hidden, labels, classes)
        self.penalty = _penalty(hidden, labels, self.whole)
        self.tables = {name: np.zeros((len(labels), classes)) for name in names}

    def score(self, out: Array) -> None:
        """Fill in the scores of the images of a mask (N,) by the classifiers of all others."""
        left_out = Sums.of(self.hidden[out], self.labels[out], self.classes)
        for name, table in self.tables.items():
            table[out] = _head(name, self.whole - left_out, self.penalty).logits(self.hidden[out])


def _penalty(hidden: Array, labels: Array, sums: Sums) -> float:
    """Return the penalty of the ridge, by generalised cross-validation on all images."""
    if len(hidden) < hidden.shape[1]:
        return gcv_penalty_of_rows(hidden, one_hot(labels, len(sums.counts)))
    return gcv_penalty(sums.gram, sums.cross, sums.images, sums.images)


def _head(name: str, sums: Sums, penalty: float) -> heads.Linear:
    if name == "ncm":
        return heads.nearest_mean(sums)
    return heads.discriminant(sums) if name == "gda" else heads.ridge(sums, penalty)


def seconds_of_a_product(clock: Clock) -> float:
    """Return the seconds that one multiplication of a product of matrices takes here."""
    hidden = METHODS["ranpac"].defining["hidden"]
    rows = np.ones((_ROWS, hidden))
    begun = clock()
    rows.T @ rows
    return (clock() - begun) / (_ROWS * hidden**2)


def multiplications(images: int, width: int, classes: int) -> float:
    """Estimate the work of ``cross_validated`` with all folds, in multiplications."""
    count = _BALANCE * images * classes
    for size in (width, METHODS["ranpac"].defining["hidden"]):
        count += 2.0 * images * size**2  # all images are summed, and those of each fold
        count += _EIGENVALUES * float(min(images, size)) ** 3 + FOLDS * _SOLVING * float(size) ** 3
    return count
