"""A solved classifier: its linear scores, and how two halves are joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clclip.classification.closed_form import heads
from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.joining import Balance, joined_logits
from clclip.classification.closed_form.maps import Maps
from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.closed_form.sums import Sums
from clclip.classification.features.vectors import log_softmax, unit

Array = np.ndarray

TEXT_SCALE = 100.0  # CLIP's own factor on cosines


@dataclass
class Solved:
    """A classifier of all seen classes.

    Attributes:
        maps: of features.
        ridge: the linear scores; of a discriminant where there is no ridge.
        plain: the discriminant of the joined classifier, else None.
        text: (K, d) unit text embeddings, for gda_text.
        balance: how two halves are joined.
    """

    maps: Maps
    ridge: Linear
    plain: Linear | None = None
    text: Array | None = None
    balance: Balance | None = None

    def log_probabilities(self, features: Array) -> Array:
        """Return (N, K) of the features (V, N, d) of images' views."""
        first = self.log_odds(features)
        if self.balance is None:
            return log_softmax(first)
        if self.plain is not None:
            second = self.plain.logits(self.maps.averaged(features))
            return log_softmax(joined_logits(first, second, self.balance))
        assert self.text is not None  # a balance without a second classifier is that of the text
        cosines = TEXT_SCALE * np.mean([unit(view) @ self.text.T for view in features], axis=0)
        return log_softmax(joined_logits(cosines, first, self.balance))

    def log_odds(self, features: Array) -> Array:
        """Return the logits (N, K) of the first half for views (V, N, d) of images."""
        return self.ridge.logits(self.maps.ridge_rows(features))


def linear(options: ClosedFormOptions, sums: Sums, penalty: float | None) -> Linear:
    """Return the linear scores of a head that has one half."""
    if options.head == "ncm":
        return heads.nearest_mean(sums)
    if options.head in ("gda", "gda_text"):
        return heads.discriminant(sums)
    return heads.ridge(sums, penalty or 0.0)
