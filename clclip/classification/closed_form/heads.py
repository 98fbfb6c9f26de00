"""The classifiers that follow from sums: nearest mean, ridge, discriminant with one covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clclip.classification.closed_form.solver import cholesky, forward, solve
from clclip.classification.closed_form.sums import Sums
from clclip.classification.features.vectors import unit

Array = np.ndarray

COSINE_SCALE = 20.0  # factor on cosines before the softmax, as SECA's inference_scale
RIDGE_SCALE = 10.0  # factor on ridge scores, which lie near 0 and 1


@dataclass(frozen=True)
class Linear:
    """Scores ``h weights + bias`` (N, K); ``scale`` makes logits of them."""

    weights: Array
    bias: Array
    scale: float

    def logits(self, hidden: Array) -> Array:
        """Return logits (N, K) of features (N, M)."""
        return self.scale * (hidden @ self.weights + self.bias)


def nearest_mean(sums: Sums) -> Linear:
    """Return the classifier by the cosine with the class means."""
    weights = unit(sums.means).T
    return Linear(weights, np.zeros(weights.shape[1]), COSINE_SCALE)


def ridge(sums: Sums, penalty: float) -> Linear:
    """Return ridge regression on one-hot targets."""
    weights = solve(sums.gram, sums.cross, penalty)
    return Linear(weights, np.zeros(weights.shape[1]), RIDGE_SCALE)


def discriminant(sums: Sums, means: Array | None = None) -> Linear:
    """Return discriminant analysis with a shared covariance and equal class priors.

    GDA-CLIP (Wang et al., ICLR 2024): ``P = d pinv((N - 1) S + tr(S) I)``, ``w_c = P mu_c``,
    ``b_c = -mu_c^T P mu_c / 2``. Logits are scaled by (N - 1) / d, which makes P the inverse of a
    shrunken covariance and the softmax a posterior; no answer changes by it.

    Args:
        sums: of the images.
        means: (K, d) instead of the sums' own.
    """
    covariance = sums.covariance()
    means = sums.means if means is None else means
    size, images = len(covariance), max(sums.images - 1, 1)
    spread = max(float(np.trace(covariance)), _least_spread(means))
    weights = size * solve(images * covariance, means.T, spread)
    return Linear(weights, -0.5 * (means.T * weights).sum(axis=0), images / size)


def over_scores(first: Linear, second: Linear) -> Linear:
    """Return ``second``, a classifier of the scores of ``first``, as one of its features."""
    bias = first.bias @ second.weights + second.bias
    return Linear(first.weights @ second.weights, bias, second.scale)


def shrunken_factor(sums: Sums) -> Array:
    """Return the Cholesky factor (d, d) of the covariance that ``discriminant`` inverts."""
    covariance = sums.covariance()
    ridge_part = float(np.trace(covariance)) / max(sums.images - 1, 1)
    return cholesky(covariance, max(ridge_part, _least_spread(sums.means)))


def _least_spread(means: Array) -> float:
    """Return a variance next to nothing; with one image a class it leaves the nearest mean."""
    return float(np.finfo(float).eps) * max(float(np.square(means).mean()), 1e-30)


def whitened(factor: Array, rows: Array) -> Array:
    """Return rows (K, d) in the space where the covariance ``factor factor^T`` is the identity."""
    return forward(factor, rows.T).T
