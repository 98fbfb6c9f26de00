"""The accumulated normal equations ``(G + penalty I) W = Q``, and the choice of their penalty.

``G = sum h h^T`` and ``Q = sum h y^T`` are sums over images, so are all figures that generalised
cross-validation (Golub, Heath and Wahba, 1979) needs: the solution and its penalty are the same for
every order of tasks.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

PENALTIES = 10.0 ** np.arange(-8, 8.25, 0.5)
"""Penalties among which cross-validation chooses."""

PUBLISHED_PENALTIES = 10.0 ** np.arange(-8, 9)
"""RanPAC's (arXiv 2307.02251; LAMDA-PILOT, models/ranpac.py)."""

_BLOCK = 256  # rows of a triangular system that are solved at once
_LEAST_LEFT = 1e-6  # of a row's own target that others decide; below, rounding alone speaks


def solve(gram: Array, cross: Array, penalty: float) -> Array:
    """Return W (M, K) of ``(gram + penalty I) W = cross`` by Cholesky.

    Args:
        gram: (M, M), symmetric, no negative eigenvalue.
        cross: (M, K).
        penalty: raised to what rounding needs where ``gram`` is singular.
    """
    factor = cholesky(gram, penalty)
    return _upper(factor, forward(factor, cross))


def cholesky(gram: Array, penalty: float) -> Array:
    """Return the Cholesky factor of ``gram + penalty I``, the penalty raised as in ``solve``."""
    size = len(gram)
    limits = np.finfo(gram.dtype)
    rounding = float(size * limits.eps * np.max(np.diagonal(gram)))
    penalty = max(penalty, rounding, float(limits.tiny))
    while True:
        try:
            return np.linalg.cholesky(gram + penalty * np.eye(size))
        except np.linalg.LinAlgError:  # rounding alone: the next decade is still no penalty at all
            penalty *= 10


def left_out_scores(hidden: Array, targets: Array, gram: Array, penalty: float) -> Array:
    """Return the scores (N, K) of every row by the ridge of all other rows.

    ``y_i - (y_i - h_i W) / (1 - h_i (G + p I)^-1 h_i)``, Allen's PRESS (Technometrics 1974): exact,
    and no ridge is solved anew.

    Args:
        hidden: (N, M).
        targets: (N, K).
        gram: (M, M) of these rows.
        penalty: of the ridge.
    """
    factor = cholesky(gram, penalty)
    half = forward(factor, hidden.T)  # (M, N)
    left = np.maximum(1 - np.square(half).sum(axis=0), _LEAST_LEFT)
    return targets - (targets - half.T @ (half @ targets)) / left[:, None]


def forward(factor: Array, right: Array) -> Array:
    """Return ``factor^-1 right`` for a lower triangle (M, M), block by block."""
    solution = np.array(right, dtype=factor.dtype)
    for start in range(0, len(factor), _BLOCK):
        rows = slice(start, start + _BLOCK)
        solution[rows] -= factor[rows, :start] @ solution[:start]
        solution[rows] = np.linalg.solve(factor[rows, rows], solution[rows])
    return solution


def _upper(factor: Array, right: Array) -> Array:
    """Return ``factor^-T right`` for a lower triangle (M, M), block by block from the end."""
    solution = np.array(right, dtype=factor.dtype)
    for start in reversed(range(0, len(factor), _BLOCK)):
        rows, below = slice(start, start + _BLOCK), slice(start + _BLOCK, None)
        solution[rows] -= factor[below, rows].T @ solution[below]
        solution[rows] = np.linalg.solve(factor[rows, rows].T, solution[rows])
    return solution


def gcv_penalty(gram: Array, cross: Array, images: float, squares: float) -> float:
    """Return the penalty of the smallest generalised cross-validation error.

    Args:
        gram: (M, M).
        cross: (M, K).
        images: number N of rows that were summed.
        squares: sum of squares of all targets; N for one-hot targets.
    """
    values, vectors = np.linalg.eigh(gram)
    parts = np.square(vectors.T @ cross).sum(axis=1)  # |u_i^T Q|^2
    return _smallest(np.maximum(values, 0.0), parts, images, squares)


def gcv_penalty_of_rows(hidden: Array, targets: Array) -> float:
    """Return the same from the rows (N, M) and targets (N, K) themselves, cheaper where N < M."""
    values, vectors = np.linalg.eigh(hidden @ hidden.T)
    values = np.maximum(values, 0.0)
    parts = values * np.square(vectors.T @ targets).sum(axis=1)  # |u_i^T Q|^2 = s_i |v_i^T Y|^2
    return _smallest(values, parts, len(hidden), float(np.square(targets).sum()))


def _smallest(values: Array, parts: Array, images: float, squares: float) -> float:
    """Return the best penalty, given eigenvalues of the Gram matrix and ``|u_i^T Q|^2``.

    GCV = (|Y|^2 - 2 tr W^T Q + tr W^T G W) / N / (1 - tr A / N)^2 with ``tr A = sum s / (s + p)``.
    """
    # beyond the largest eigenvalue a penalty shrinks all scores alike, in the end to nothing
    penalties = PENALTIES[PENALTIES <= max(float(values.max()), PENALTIES[0])]
    errors = []
    for penalty in penalties:
        inverse = 1 / (values + penalty)
        residual = squares - 2 * (parts * inverse).sum() + (values * parts * inverse**2).sum()
        freedom = 1 - (values * inverse).sum() / images
        errors.append(residual / images / freedom**2 if freedom > 1e-6 else np.inf)
    return float(penalties[int(np.argmin(errors))])


def holdout_penalty(gram: Array, cross: Array, hidden: Array, targets: Array) -> float:
    """Return the published choice: the smallest squared error on held-out images.

    Args:
        gram: sums (M, M) without those images.
        cross: (M, K) likewise.
        hidden: (N, M) of the held-out images.
        targets: (N, K).
    """
    errors = [
        float(np.square(hidden @ solve(gram, cross, penalty) - targets).mean())
        for penalty in PUBLISHED_PENALTIES
    ]
    return float(PUBLISHED_PENALTIES[int(np.argmin(errors))])
