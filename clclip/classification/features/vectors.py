"""Rows of unit length and log probabilities: what all classifiers over stored features share."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def unit(rows: Array) -> Array:
    """Return rows (..., d) of unit length, in float64; a row of zeros stays."""
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def log_softmax(logits: Array) -> Array:
    """Return log probabilities of logits (N, K)."""
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
