"""The joined classifier (``head: joined``): a corrected ridge and a discriminant of features."""

from __future__ import annotations

import numpy as np

from clclip.classification.closed_form import heads
from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.joining import USUAL, fitted_balance, out_of_fold
from clclip.classification.closed_form.learner import Solved
from clclip.classification.closed_form.maps import Maps, Seen
from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.closed_form.record import FOLDS
from clclip.classification.closed_form.semantics import refined_means
from clclip.classification.closed_form.solver import left_out_scores
from clclip.classification.closed_form.sums import Sums, one_hot

Array = np.ndarray

CORRECTED_PENALTY = 0.1
"""Of the penalty by which a ridge alone errs least: what corrects it does the smoothing then."""


def joined_halves(maps: Maps, known: Seen, penalty: float, text: Array | None) -> Solved:
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


def discriminant(options: ClosedFormOptions, sums: Sums, text: Array | None) -> Linear:
    """Return the discriminant of the joined classifier, its means refined by the texts if asked."""
    means = refined_means(sums, text) if options.prior == "text" and text is not None else None
    return heads.discriminant(sums, means)
