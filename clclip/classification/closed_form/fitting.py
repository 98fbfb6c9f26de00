"""The figures that a closed-form classifier chooses: its penalty and the balance of its halves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from clclip.classification.closed_form import heads
from clclip.classification.closed_form.joining import (
    FOLDS,
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
from clclip.classification.closed_form.solver import holdout_penalty, left_out_scores
from clclip.classification.closed_form.sums import Sums, joined, one_hot, unit

Array = np.ndarray

CORRECTED_PENALTY = 0.1
"""Of the penalty by which a ridge alone errs least: what corrects it does the smoothing then."""

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
    if options.head == "joined":
        return _joined(maps, known, penalty or 0.0, text)
    first = linear(options, known.ridge, penalty)
    if options.head == "gda_text":
        balance = Balance(*map(float, records[0]["balance"]))
        return Solved(maps, first, text=text, balance=balance)
    return Solved(maps, first)


def _stored_penalty(records: Sequence[Record]) -> float | None:
    """Return the penalty that the newest task chose by the published rule, if any did."""
    return float(records[-1]["penalty"][0]) if "penalty" in records[-1] else None


def _joined(maps: Maps, known: Seen, penalty: float, text: Array | None) -> Solved:
    """Join ridge and discriminant.

    Scores of a ridge on images left out show which classes it takes for each other: a discriminant
    over these scores corrects it. Its scores by folds and those of the discriminant
    of features decide the balance. All this needs the images as rows, and a few of each class.
    """
    assert known.plain is not None  # seen() gives it to this head
    second = discriminant(maps.options, known.plain, text)
    if known.rows is None or known.ridge.counts.min() < FOLDS:
        first = heads.ridge(known.ridge, penalty)
        return Solved(maps, first, second, balance=USUAL)
    features, labels, folds = known.rows
    penalty = maps.options.penalty or CORRECTED_PENALTY * penalty
    classes, plain_sums = len(known.ridge.counts), known.plain
    hidden, targets = maps.ridge_rows(features), one_hot(labels, classes)
    scores = left_out_scores(hidden, targets, known.ridge.gram, penalty)
    score_sums = Sums.of(scores, labels, classes)

    def corrected(out: Array) -> Array:
        rest = score_sums - Sums.of(scores[out], labels[out], classes)
        return heads.discriminant(rest).logits(scores[out])

    def plain(out: Array) -> Array:
        rest = plain_sums - maps.plain_sums(features[:, out], labels[out], classes)
        return discriminant(maps.options, rest, text).logits(maps.averaged(features[:, out]))

    one, two = out_of_fold(folds, classes, (corrected, plain))
    balance = fitted_balance(one, two, labels)
    first = heads.over_scores(heads.ridge(known.ridge, penalty), heads.discriminant(score_sums))
    return Solved(maps, first, second, balance=balance)


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
    return holdout_penalty(sums.gram, sums.cross, maps.ridge_rows(features[:, held]), targets)
