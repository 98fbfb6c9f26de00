"""The discriminant joined with the class texts (``head: gda_text``): how they are balanced."""

from __future__ import annotations

import numpy as np

from clclip.classification.closed_form.joining import Balance, fitted_balance, out_of_fold
from clclip.classification.closed_form.learner import TEXT_SCALE, Solved, linear
from clclip.classification.closed_form.maps import Maps
from clclip.classification.features.vectors import unit

Array = np.ndarray


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
