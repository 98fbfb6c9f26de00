"""RanPAC's random features: ``relu(f W)`` with W drawn once for a run (arXiv 2307.02251)."""

from __future__ import annotations

import hashlib

import numpy as np

from clclip.classification.closed_form.sums import unit

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
