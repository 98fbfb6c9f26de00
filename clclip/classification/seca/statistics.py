"""The visual half of SECA as a discriminant or a ridge, from stored statistics.

A task keeps the unit features of its images under its own adapters, with labels; no image. Later
tasks move the adapters, so stored features are no longer those that the images would have now. Of
the task's own images both features are known, under the adapters before and after: an affine map
``x' = unit(x + D x + b)`` is fitted to them (ridge, penalty by generalised cross-validation) and
moves the features of older tasks (``statistics: moved``). Where only the first task adapts,
nothing moves.

Numpy alone; sums and solutions are those of ``closed_form``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clclip.classification.closed_form import heads
from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.joining import (
    Balance,
    fitted_balance,
    joined_logits,
    out_of_fold,
)
from clclip.classification.closed_form.maps import Maps, Seen, chosen_penalty
from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.closed_form.record import FOLDS
from clclip.classification.closed_form.solver import gcv_penalty, solve
from clclip.classification.closed_form.sums import Sums
from clclip.classification.features.vectors import log_softmax, unit

Array = np.ndarray


class Drift(NamedTuple):
    """How features have moved in a task: ``unit(x + x map + shift)``, map (d, d), shift (d,)."""

    map: Array
    shift: Array

    def __call__(self, rows: Array) -> Array:
        """Return unit features (N, d) where they are now."""
        return unit(rows + rows @ self.map + self.shift)


def fitted_drift(before: Array, after: Array) -> Drift:
    """Return the map from unit features (N, d) before a task to those after it."""
    x, change = np.float64(before), np.float64(after) - before
    middle, mean = x.mean(axis=0), change.mean(axis=0)
    x, change = x - middle, change - mean
    gram, cross, squares = x.T @ x, x.T @ change, float(np.square(change).sum())
    if squares == 0:
        return Drift(np.zeros_like(gram), mean)
    weights = solve(gram, cross, gcv_penalty(gram, cross, len(x), squares))
    return Drift(weights, mean - middle @ weights)


def memory_rows(records: Sequence[Mapping[str, Array]]) -> tuple[Array, Array]:
    """Return all stored features (N, d), moved with the adapters, and labels (N,).

    Args:
        records: of tasks 1..t: ``features``, ``labels`` among the task's classes, ``raw`` (one row
            a class), and ``drift.map`` with ``drift.shift`` of a task that moved older ones.
    """
    rows: list[Array] = []
    labels: list[Array] = []
    classes = 0
    for record in records:
        if "drift.map" in record:
            drift = Drift(
                *(np.asarray(record[f"drift.{key}"], np.float64) for key in ("map", "shift"))
            )
            rows = [drift(older) for older in rows]
        rows.append(np.asarray(record["features"], np.float64))
        labels.append(np.asarray(record["labels"], np.int64) + classes)
        classes += len(record["raw"])
    return np.concatenate(rows), np.concatenate(labels)


@dataclass(frozen=True)
class Joined:
    """A classifier by statistics, alone or joined with the text half.

    Attributes:
        maps: of features.
        scores: the visual half.
        text: (s, K, d) unit texts of all prompts, and the factor on cosines.
        balance: of text and visual half.
    """

    maps: Maps
    scores: Linear
    text: tuple[Array, float]
    balance: Balance

    def log_probabilities(self, rows: Array) -> Array:
        """Return (N, K) of unit features (N, d)."""
        visual = self.scores.logits(self.maps.hidden(rows))
        if self.balance.first == 0:
            return log_softmax(self.balance.second * visual)
        by_text = text_logits(rows, *self.text)
        return log_softmax(joined_logits(by_text, visual, self.balance))


def text_logits(rows: Array, text: Array, scale: float) -> Array:
    """Return log of the mean over prompts of softmax_k(scale cos), (N, K)."""
    each = [np.exp(log_softmax(scale * rows @ one.T)) for one in np.asarray(text, np.float64)]
    return np.log(np.maximum(np.mean(each, axis=0), 1e-300))


def solved(
    classifier: str,
    hidden: int,
    seed: int,
    memory: tuple[Array, Array],
    text: tuple[Array, float],
    with_text: bool,
) -> Joined:
    """Return the classifier of all seen classes.

    Args:
        classifier: one of ``options.CLASSIFIERS``.
        hidden: random features of "ranpac".
        seed: draws them.
        memory: features (N, d) and labels (N,) of all tasks.
        text: (s, K, d) and the factor on cosines.
        with_text: join the text half, its weight fitted by folds; else the visual half alone.
    """
    rows, labels = memory
    classes = text[0].shape[1]
    options = ClosedFormOptions(head="gda")
    if classifier == "ranpac":
        options = ClosedFormOptions(head="ridge", hidden=hidden)
    maps = Maps(options, seed, rows.shape[1])
    folds = np.arange(len(labels)) % FOLDS
    known = Seen(maps.ridge_sums(rows[None], labels, classes), None, (rows[None], labels, folds))
    penalty = chosen_penalty(maps, known) if options.head == "ridge" else 0.0

    def fitted(sums: Sums) -> Linear:
        ridge = options.head == "ridge"
        return heads.ridge(sums, penalty) if ridge else heads.discriminant(sums)

    scores = fitted(known.ridge)
    balance = Balance(0.0, 1.0)
    if with_text:

        def visual(out: Array) -> Array:
            rest = known.ridge - maps.ridge_sums(rows[None, out], labels[out], classes)
            return fitted(rest).logits(maps.hidden(rows[out]))

        first, second = out_of_fold(
            folds, classes, (lambda out: text_logits(rows[out], *text), visual)
        )
        balance = fitted_balance(first, second, labels)
    return Joined(maps, scores, text, balance)
