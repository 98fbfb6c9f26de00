"""RAPF's training and fusion of the adapter A (d, d), in numpy: gradients are written out.

Huang et al., ECCV 2024. Logits are ``scale cos(A f, t_c)`` over all seen classes; features f and
texts t are frozen. Old classes take part as draws from their Gaussians. Where the text of an old
class is near that of a new one, a hinge holds the old class's draws on their side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clclip.classification.rapf.options import RapfOptions

Array = np.ndarray

RIDGE = 1e-4  # on the diagonal of a class covariance


@dataclass(frozen=True)
class Gaussians:
    """Gaussians of K classes: mean (K, d) and Cholesky factor (K, d, d)."""

    mean: Array
    factor: Array

    def draw(self, number: int, count: int, draws: np.random.Generator) -> Array:
        """Return ``count`` features (count, d) of a class."""
        noise = draws.standard_normal((count, self.mean.shape[1]))
        return self.mean[number] + noise @ self.factor[number].T


def gaussians_of(features: Array, labels: Array, classes: int) -> Gaussians:
    """Return the Gaussians of features (N, d) with labels (N,) in 0..classes-1."""
    means, factors = [], []
    for number in range(classes):
        rows = features[labels == number].astype(np.float64)
        centred = rows - rows.mean(axis=0)
        covariance = centred.T @ centred / max(len(rows) - 1, 1)
        means.append(rows.mean(axis=0))
        factors.append(np.linalg.cholesky(covariance + RIDGE * np.eye(rows.shape[1])))
    return Gaussians(np.stack(means), np.stack(factors))


def cosine_gradient(adapter: Array, rows: Array, slopes: Array) -> Array:
    """Return the gradient (d, d) of a loss by A, given its slopes (N, d) by ``A f / |A f|``."""
    mapped = rows @ adapter.T
    norms = np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)
    unit = mapped / norms
    inner = (slopes - unit * (unit * slopes).sum(axis=1, keepdims=True)) / norms
    return inner.T @ rows


def cosines(adapter: Array, rows: Array, text: Array) -> Array:
    """Return cos(A f, t) (N, K) of rows (N, d) and unit texts (K, d)."""
    mapped = rows @ adapter.T
    return (mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)) @ text.T


def entropy_step(
    adapter: Array, rows: Array, labels: Array, text: Array, scale: float
) -> tuple[float, Array]:
    """Return the mean cross-entropy of rows (N, d) and its gradient by A."""
    logits = scale * cosines(adapter, rows, text)
    logits -= logits.max(axis=1, keepdims=True)
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    index = np.arange(len(labels))
    loss = -np.log(np.maximum(probabilities[index, labels], 1e-300)).mean()
    probabilities[index, labels] -= 1
    slopes = scale * probabilities @ text / len(labels)
    return float(loss), cosine_gradient(adapter, rows, slopes)


def hinge_step(
    adapter: Array, rows: Array, old: Array, new: Array, margin: float
) -> tuple[float, Array]:
    """Return the mean of ``relu(cos(A f, t_new) - cos(A f, t_old) + margin)`` and its gradient.

    Args:
        adapter: A (d, d).
        rows: (N, d) draws of old classes.
        old: (N, d) unit texts of their own classes.
        new: (N, d) unit texts of the new classes that they are paired with.
        margin: of the hinge.
    """
    mapped = rows @ adapter.T
    unit = mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)
    gaps = (unit * (new - old)).sum(axis=1) + margin
    active = (gaps > 0)[:, None] / len(rows)
    return float(np.maximum(gaps, 0).mean()), cosine_gradient(adapter, rows, active * (new - old))


def near_pairs(text: Array, old: int, threshold: float) -> list[tuple[int, int]]:
    """Return (old class, new class) whose unit texts (K, d) are nearer than ``threshold``."""
    distances = np.linalg.norm(text[:old, None] - text[None, old:], axis=-1)
    return [(int(i), int(j) + old) for i, j in np.argwhere(distances < threshold)]


def trained(
    adapter: Array,
    features: Array,
    labels: Array,
    text: Array,
    before: Gaussians | None,
    options: RapfOptions,
    draws: np.random.Generator,
) -> Array:
    """Return A (d, d) after one task.

    Args:
        adapter: A at its start.
        features: (N, d) of the task's images.
        labels: (N,) among all seen classes.
        text: (K, d) unit texts of all seen classes.
        before: Gaussians of the old classes, None in the first task.
        options: of the method.
        draws: of batches and pseudo features.
    """
    state = Adam(adapter)
    old = 0 if before is None else len(before.mean)
    pairs = near_pairs(text, old, options.threshold)
    rows = features.astype(np.float64)
    for epoch in range(options.epochs):
        rate = options.lr * 0.1 ** sum(epoch >= milestone for milestone in options.milestones)
        order = draws.permutation(len(rows))
        for start in range(0, len(rows), options.batch_size):
            batch = order[start : start + options.batch_size]
            x, y = rows[batch], labels[batch]
            gradient = np.zeros_like(adapter)
            if before is not None:
                chosen = draws.choice(old, min(old, options.replay_classes), replace=False)
                count = options.old_samples
                x = np.concatenate([x, *(before.draw(k, count, draws) for k in chosen)])
                y = np.concatenate([y, np.repeat(chosen, count)])
            if before is not None and pairs:
                count = options.pair_samples
                drawn = np.concatenate([before.draw(i, count, draws) for i, _ in pairs])
                old_text, new_text = (
                    np.repeat([text[pair[k]] for pair in pairs], count, axis=0) for k in (0, 1)
                )
                gradient += hinge_step(state.value, drawn, old_text, new_text, options.margin)[1]
            gradient += entropy_step(state.value, x, y, text, options.scale)[1]
            state.step(gradient, rate)
    return state.value


class Adam:
    """Adam with its usual constants, for one array."""

    def __init__(self, value: Array) -> None:
        self.value = np.array(value, dtype=np.float64)
        self.first, self.second = np.zeros_like(self.value), np.zeros_like(self.value)
        self.count = 0

    def step(self, gradient: Array, rate: float) -> None:
        """Take one step."""
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first, second = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
        self.value = self.value - rate * first / (np.sqrt(second) + 1e-8)


def fused(old: Array, new: Array, least: float) -> Array:
    """Return the fusion of two adapters: new entries where they differ, old ones where not.

    ``old = U S V^T``, ``P = U^T new``, ``D = |P - S V^T|``, ``M = min(1, D / max D + least)``,
    result ``U (P M + S V^T (1 - M))``.
    """
    left, values, right = np.linalg.svd(old)
    before, after = values[:, None] * right, left.T @ new
    gaps = np.abs(after - before)
    largest = gaps.max()
    if largest == 0:
        return np.array(new)
    share = np.minimum(1.0, gaps / largest + least)
    return left @ (after * share + before * (1 - share))
