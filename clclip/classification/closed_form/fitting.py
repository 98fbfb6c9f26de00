"""The figures that a closed-form classifier chooses: its penalty and the balance of its halves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from clclip.classification.closed_form.joining import (
    USUAL,
    Balance,
    fitted_balance,
    out_of_fold,
)
from clclip.classification.closed_form.learner import (
    TEXT_SCALE,
    Maps,
    Seen,
    Solved,
    chosen_penalty,
    discriminant,
    linear,
    seen,
)
from clclip.classification.closed_form.record import Record
from clclip.classification.closed_form.solver import holdout_penalty
from clclip.classification.closed_form.sums import Sums, joined, one_hot, unit

Array = np.ndarray

HELD_OUT = 0.2  # share of a task's images by which the published rule chooses the penalty


def solved(
    maps: Maps, records: Sequence[Record], counts: Sequence[int], text: Array | None
) -> Solved:
    """Return the classifier of all seen classes from the records of tasks 1..t.

    Args:
        maps: of features.
        records: one per task.
        counts: classes of each task.
        text: (K, d) unit text embeddings of the seen classes, or None.
    """
    options = maps.options
    known = seen(maps, records, counts)
    penalty = None
    if options.head in ("ridge", "joined"):
        penalty = options.penalty or _stored_penalty(records) or chosen_penalty(maps, known)
    first = linear(options, known.ridge, penalty)
    if options.head == "gda_text":
        balance = Balance(*map(float, records[0]["balance"]))
        return Solved(maps, first, text=text, balance=balance)
    if options.head == "joined":
        assert known.plain is not None  # seen() gives it to this head
        second = discriminant(options, known.plain, text)
        balance = _balance(maps, known, penalty or 0.0, text)
        return Solved(maps, first, second, balance=balance)
    return Solved(maps, first)


def _stored_penalty(records: Sequence[Record]) -> float | None:
    """Return the penalty that the newest task chose by the published rule, if any did."""
    return float(records[-1]["penalty"][0]) if "penalty" in records[-1] else None


def _balance(maps: Maps, known: Seen, penalty: float, text: Array | None) -> Balance:
    """Fit the balance of ridge and discriminant on the images that are stored as rows."""
    if known.rows is None or known.plain is None:
        return USUAL
    features, labels, folds = known.rows
    classes, first_sums, second_sums = len(known.ridge.counts), known.ridge, known.plain

    def without(total: Sums, out: Array, of: str) -> Sums:
        part = maps.ridge_sums if of == "ridge" else maps.plain_sums
        return total - part(features[:, out], labels[out], classes)

    def ridge(out: Array) -> Array:
        fitted = linear(maps.options, without(first_sums, out, "ridge"), penalty)
        return Solved(maps, fitted).log_odds(features[:, out])

    def plain(out: Array) -> Array:
        fitted = discriminant(maps.options, without(second_sums, out, "plain"), text)
        return fitted.logits(maps.averaged(features[:, out]))

    first, second = out_of_fold(folds, classes, (ridge, plain))
    return fitted_balance(first, second, labels)


def text_balance(maps: Maps, features: Array, labels: Array, folds: Array, text: Array) -> Balance:
    """Fit the balance of text and discriminant on the images of one task.

    GDA-CLIP chooses the weight on validation images; here both factors, five folds of the first
    task, where nothing of later tasks is known.

    Args:
        maps: of features.
        features: (V, N, d).
        labels: (N,) among the task's classes.
        folds: (N,).
        text: (K, d) unit text embeddings of the task's classes.
    """
    classes = len(text)
    total = maps.ridge_sums(features, labels, classes)

    def cosines(out: Array) -> Array:
        return TEXT_SCALE * np.mean([unit(view[out]) @ text.T for view in features], axis=0)

    def visual(out: Array) -> Array:
        fitted = total - maps.ridge_sums(features[:, out], labels[out], classes)
        return Solved(maps, linear(maps.options, fitted, None)).log_odds(features[:, out])

    first, second = out_of_fold(folds, classes, (cosines, visual))
    return fitted_balance(first, second, labels)


def published_penalty(
    maps: Maps,
    earlier: Sequence[Record],
    counts: Sequence[int],
    features: Array,
    labels: Array,
    seed: int,
) -> float:
    """Return the penalty by RanPAC's rule: error on the last 20 % of the task's shuffled images.

    Args:
        maps: of features.
        earlier: records of the tasks before.
        counts: classes of each task, this one last.
        features: (V, N, d) of this task.
        labels: (N,) among its classes.
        seed: decides the shuffle, with the task's number.
    """
    digest = hashlib.sha256(f"holdout {seed} {len(counts)}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(len(labels))
    split = len(order) - max(1, round(HELD_OUT * len(order)))
    used, held = order[:split], order[split:]
    sums = maps.ridge_sums(features[:, used], labels[used], counts[-1])
    if earlier:
        sums = joined([seen(maps, earlier, counts[:-1]).ridge, sums])
    classes, start = int(sum(counts)), int(sum(counts[:-1]))
    targets = one_hot(labels[held] + start, classes)
    return holdout_penalty(sums.gram, sums.cross, maps.hidden(features[0][held]), targets)
