"""SE-VPR under a covariance: class means refined by what the class texts say of each other.

SE-VPR mixes class means by the affinity of their texts, under the cosine. Here the means are those
of a Gaussian classifier, whitened by its covariance, so that the mean of n images is known up to a
noise of variance 1/n. The texts give the prior: ``Z = 1 m^T + F + noise`` with columns of F drawn
from N(0, a T + b I), where T (K, K) is the Gram matrix of the centred text embeddings. The
posterior mean of ``m + F`` replaces the raw means; ``a`` and ``b`` maximise the marginal
likelihood, so texts that say nothing get weight 0. All of it follows from sums: no task order
changes it.
"""

from __future__ import annotations

import numpy as np

from clclip.classification.closed_form.heads import shrunken_factor, whitened
from clclip.classification.closed_form.sums import Sums

Array = np.ndarray

TEXT_STRENGTHS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
OWN_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def refined_means(sums: Sums, text: Array) -> Array:
    """Return posterior class means (K, d) in the features' own space.

    Args:
        sums: of the images.
        text: (K, d') text embeddings of the classes.
    """
    if len(text) < 2:
        return sums.means
    factor = shrunken_factor(sums)
    observed = whitened(factor, sums.means)  # (K, d), noise 1/n
    centre = observed.mean(axis=0)
    noise = np.diag(1 / np.maximum(sums.counts, 1))
    kernel = _kernel(text)
    best, posterior = -np.inf, observed
    for text_strength in TEXT_STRENGTHS:
        for own_strength in OWN_STRENGTHS:
            prior = text_strength * kernel + own_strength * np.eye(len(text))
            solved = np.linalg.solve(prior + noise, observed - centre)
            log_determinant = np.linalg.slogdet(prior + noise)[1] * observed.shape[1]
            likelihood = -0.5 * (log_determinant + ((observed - centre) * solved).sum())
            if likelihood > best:
                best, posterior = likelihood, centre + prior @ solved
    return posterior @ factor.T


def _kernel(text: Array) -> Array:
    """Return the Gram matrix (K, K) of centred texts, its mean diagonal 1."""
    centred = text - text.mean(axis=0)
    gram = centred @ centred.T
    return gram / max(float(np.mean(np.diagonal(gram))), 1e-12)
