"""VIS's mixer and its training in the first task, in numpy: gradients are written out.

``u = h_L + U gelu(V m + b_V) + b_U`` with m the pooled tokens of several blocks beside each other
and h_L those of the last; U and b_U start at zero, so an untrained mixer is the last token itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clclip.classification.vis.options import VisOptions

Array = np.ndarray

_GELU = np.sqrt(2 / np.pi), 0.044715  # of the form with tanh
KEYS = ("scale", "v", "v_bias", "u", "u_bias")


@dataclass(frozen=True)
class Mixer:
    """The weights of a mixer of L blocks of width d.

    Attributes:
        scale: (L,) factors that bring the tokens of each block to a mean square of 1.
        v: (hidden, L d).
        v_bias: (hidden,).
        u: (d, hidden).
        u_bias: (d,).
    """

    scale: Array
    v: Array
    v_bias: Array
    u: Array
    u_bias: Array

    def __call__(self, taps: Array) -> Array:
        """Return mixed tokens u (N, d), float64, of pooled tokens (L, N, d)."""
        tokens = self.scaled(taps)
        return self.mixed(tokens)[0]

    def scaled(self, taps: Array) -> Array:
        """Return (L, N, d) in float64 with the blocks' factors."""
        return np.asarray(taps, dtype=np.float64) * self.scale[:, None, None]

    def mixed(self, tokens: Array) -> tuple[Array, Array, Array]:
        """Return u (N, d), V m + b_V (N, hidden) and m (N, L d) of scaled tokens (L, N, d)."""
        m = np.concatenate(list(tokens), axis=1)
        inner = m @ self.v.T + self.v_bias
        return tokens[-1] + gelu(inner) @ self.u.T + self.u_bias, inner, m

    def record(self) -> dict[str, Array]:
        """Return the weights as they are stored, float32."""
        return {f"mixer.{key}": getattr(self, key).astype(np.float32) for key in KEYS}

    @classmethod
    def of(cls, record: Mapping[str, Array]) -> Mixer:
        """Return the mixer that a record holds."""
        return cls(*(record[f"mixer.{key}"].astype(np.float64) for key in KEYS))


def gelu(x: Array) -> Array:
    """Return GELU (Hendrycks and Gimpel, 2016) in its form with tanh."""
    a, b = _GELU
    return 0.5 * x * (1 + np.tanh(a * (x + b * x**3)))


def gelu_slope(x: Array) -> Array:
    """Return the derivative of ``gelu``."""
    a, b = _GELU
    t = np.tanh(a * (x + b * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * a * (1 + 3 * b * x**2)


def new_mixer(taps: Array, hidden: int, draws: np.random.Generator) -> Mixer:
    """Return an untrained mixer for tokens (L, N, d): ``V`` is drawn, ``U`` zero."""
    blocks, _, width = taps.shape
    squares = np.square(np.asarray(taps, dtype=np.float64)).mean(axis=(1, 2))
    bound = 1 / np.sqrt(blocks * width)
    return Mixer(
        1 / np.sqrt(np.maximum(squares, 1e-12)),
        draws.uniform(-bound, bound, (hidden, blocks * width)),
        draws.uniform(-bound, bound, hidden),
        np.zeros((width, hidden)),
        np.zeros(width),
    )


def step_gradients(
    mixer: Mixer, head: tuple[Array, Array], tokens: Array, labels: Array, anchor: float
) -> tuple[float, dict[str, Array], tuple[Array, Array]]:
    """Return the loss of a batch, and its gradients by the mixer and by the head.

    ``CE(head u) + anchor |u - h_L|^2``, means over the batch.

    Args:
        mixer: the weights.
        head: weights (K, d) and bias (K,) of the linear classifier that training alone uses.
        tokens: scaled (L, N, d).
        labels: (N,).
        anchor: weight of the second term.
    """
    u, inner, m = mixer.mixed(tokens)
    count = len(labels)
    logits = u @ head[0].T + head[1]
    logits = logits - logits.max(axis=1, keepdims=True)
    slopes = np.exp(logits)
    slopes /= slopes.sum(axis=1, keepdims=True)
    rows = np.arange(count)
    away = u - tokens[-1]
    loss = -np.log(np.maximum(slopes[rows, labels], 1e-300)).mean()
    loss += anchor * np.square(away).sum(axis=1).mean()
    slopes[rows, labels] -= 1
    slopes /= count
    by_u = slopes @ head[0] + 2 * anchor * away / count
    by_inner = (by_u @ mixer.u) * gelu_slope(inner)
    gradients = {
        "v": by_inner.T @ m,
        "v_bias": by_inner.sum(axis=0),
        "u": by_u.T @ gelu(inner),
        "u_bias": by_u.sum(axis=0),
    }
    return float(loss), gradients, (slopes.T @ u, slopes.sum(axis=0))


def trained_mixer(
    taps: Array, labels: Array, options: VisOptions, draws: np.random.Generator
) -> Mixer:
    """Return the mixer after the first task.

    Args:
        taps: (L, N, d) pooled tokens of the task's images.
        labels: (N,) among its classes.
        options: of the method.
        draws: of weights and batches.
    """
    mixer = new_mixer(taps, options.mixer_width, draws)
    tokens = mixer.scaled(taps)
    width, classes = tokens.shape[-1], int(labels.max()) + 1
    bound = 1 / np.sqrt(width)
    head = draws.uniform(-bound, bound, (classes, width)), draws.uniform(-bound, bound, classes)
    for _ in range(options.mixer_epochs):
        order = draws.permutation(len(labels))
        for start in range(0, len(order), options.mixer_batch):
            batch = order[start : start + options.mixer_batch]
            given = tokens[:, batch], labels[batch], options.anchor
            _, slopes, by_head = step_gradients(mixer, head, *given)
            moved = {key: getattr(mixer, key) - options.mixer_lr * slopes[key] for key in slopes}
            mixer = Mixer(mixer.scale, **moved)
            weights, bias = (h - options.mixer_lr * g for h, g in zip(head, by_head, strict=True))
            head = weights, bias
    return mixer
