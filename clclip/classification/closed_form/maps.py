"""What classifiers sum over, and what the records of tasks add up to.

Random features are RanPAC's: ``relu(f W)`` with W drawn once for a run (arXiv 2307.02251).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.closed_form.record import (
    read_sums,
    row_record,
    rows_are_smaller,
    sum_record,
)
from clclip.classification.closed_form.solver import gcv_penalty, gcv_penalty_of_rows
from clclip.classification.closed_form.sums import Sums, joined, one_hot
from clclip.classification.features.records import Record
from clclip.classification.features.vectors import unit

Array = np.ndarray


def projection(seed: int, width: int, hidden: int) -> Array:
    """Return W (width, hidden) ~ N(0, 1), fixed by the seed."""
    digest = hashlib.sha256(f"random features {seed} {width} {hidden}".encode()).digest()
    draws = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return draws.standard_normal((width, hidden))


class Hidden:
    """The map from frozen features to what is summed.

    Args:
        seed: the experiment's.
        width: of the features.
        hidden: number of random features; 0: the features themselves.
        normalise: whether features are brought to unit length first.
    """

    def __init__(self, seed: int, width: int, hidden: int, normalise: bool) -> None:
        self.normalise = normalise
        self.weights = projection(seed, width, hidden) if hidden else None
        self.size = hidden or width

    def __call__(self, features: Array) -> Array:
        """Return float64 (N, M) of features (N, d)."""
        rows = unit(features) if self.normalise else np.asarray(features, dtype=np.float64)
        return rows if self.weights is None else np.maximum(rows @ self.weights, 0.0)


class Maps:
    """The two maps of features that a classifier sums over: a ridge's and a discriminant's."""

    def __init__(self, options: ClosedFormOptions, seed: int, width: int) -> None:
        self.options, self.width = options, width
        self.hidden = Hidden(seed, width, options.hidden, options.normalise)
        self.plain = Hidden(seed, width, 0, True)

    def ridge_rows(self, features: Array) -> Array:
        """Return the ridge's features (N, M), the mean over an image's views (V, N, d).

        An image is one row, so that cross-validation leaves out images and not views of them.
        """
        return np.mean([self.hidden(view) for view in features], axis=0)

    def ridge_sums(self, features: Array, labels: Array, classes: int) -> Sums:
        """Return sums of the ridge's features of images (V, N, d)."""
        return Sums.of(self.ridge_rows(features), labels, classes)

    def plain_sums(self, features: Array, labels: Array, classes: int) -> Sums:
        """Return sums of unit features, those of the views of an image averaged."""
        return Sums.of(self.averaged(features), labels, classes)

    def averaged(self, features: Array) -> Array:
        """Return the mean (N, d) of an image's unit features over its views (V, N, d)."""
        return np.mean([self.plain(view) for view in features], axis=0)


def task_record(maps: Maps, features: Array, labels: Array, folds: Array, classes: int) -> Record:
    """Return what a task of images (V, N, d) keeps: rows or sums, the smaller."""
    both = maps.options.head == "joined"
    widths = [maps.hidden.size, *([maps.width] if both else [])]
    if rows_are_smaller(features.shape, widths, classes):
        return row_record(features, labels, folds)
    sums = sum_record(maps.ridge_sums(features, labels, classes))
    if both:
        sums |= sum_record(maps.plain_sums(features, labels, classes), "plain.")
    return sums


@dataclass
class Seen:
    """What all tasks so far add up to.

    Attributes:
        ridge: sums of the ridge's features; of plain features where there is no ridge.
        plain: sums of unit features, for the joined classifier.
        rows: (features (V, N, d), labels (N,) among all seen classes, folds (N,)) of all tasks;
            None if a task stored sums instead.
    """

    ridge: Sums
    plain: Sums | None
    rows: tuple[Array, Array, Array] | None


def seen(maps: Maps, records: Sequence[Record], counts: Sequence[int]) -> Seen:
    """Add up the records of tasks with so many classes each."""
    parts, plain = [], []
    for record, classes in zip(records, counts, strict=True):
        if "features" in record:
            arrays = record["features"], record["labels"], classes
            parts.append(maps.ridge_sums(*arrays))
            plain.append(maps.plain_sums(*arrays) if maps.options.head == "joined" else None)
        else:
            parts.append(read_sums(record))
            plain.append(read_sums(record, "plain.") if maps.options.head == "joined" else None)
    rows = _rows(records, counts) if all("features" in record for record in records) else None
    both = joined([part for part in plain if part is not None]) if plain[0] is not None else None
    return Seen(joined(parts), both, rows)


def _rows(records: Sequence[Record], counts: Sequence[int]) -> tuple[Array, Array, Array]:
    """Return all features, labels and folds; labels count through the tasks."""
    starts = np.cumsum([0, *counts])
    labels = [r["labels"] + start for r, start in zip(records, starts, strict=False)]
    features = np.concatenate([record["features"] for record in records], axis=1)
    return features, np.concatenate(labels), np.concatenate([r["folds"] for r in records])


def chosen_penalty(maps: Maps, known: Seen) -> float:
    """Return the ridge penalty by generalised cross-validation, from rows where they are fewer."""
    classes = len(known.ridge.counts)
    if known.rows is not None:
        features, labels, _ = known.rows
        if features.shape[1] < maps.hidden.size:
            return gcv_penalty_of_rows(maps.ridge_rows(features), one_hot(labels, classes))
    images = known.ridge.images
    return gcv_penalty(known.ridge.gram, known.ridge.cross, images, images)
