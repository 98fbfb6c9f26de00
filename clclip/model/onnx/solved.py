"""The classifiers that numpy solves, in torch and double precision: features to probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.learner import TEXT_SCALE, Solved
from clclip.classification.closed_form.maps import Hidden
from clclip.classification.rapf.stages import Adapted
from clclip.classification.seca.statistics import Joined
from clclip.classification.vis.mixer import Mixer
from clclip.classification.vis.stages import Vis
from clclip.classification.zeroshot.stages import ByText
from clclip.core.errors import InputError

Head = Callable[[Tensor], Tensor]
"""From float64 features, (V, B, d) of V views or (B, d), to probabilities (B, K)."""


def head_of(solved: object) -> Head:
    """Return what a solved classifier's ``log_probabilities`` does, without the logarithm.

    Raises:
        InputError: if nothing is known of such a classifier.
    """
    for kind, make in _HEADS.items():
        if isinstance(solved, kind):
            return make(solved)
    what = f"a classifier {type(solved).__name__}"
    raise InputError(what, "--onnx", f"one of {', '.join(kind.__name__ for kind in _HEADS)}")


def _solved(solved: Solved) -> Head:
    """Return a ridge, a discriminant, or two halves joined."""
    hidden, ridge, balance = _hidden(solved.maps.hidden), _linear(solved.ridge), solved.balance
    plain = None if solved.plain is None else _linear(solved.plain)
    text = None if solved.text is None else _tensor(solved.text)

    def head(views: Tensor) -> Tensor:
        unit = functional.normalize(views, dim=-1)
        first = ridge(hidden(views)).mean(0)
        if balance is None:
            return first.softmax(-1)
        if plain is not None:
            return (balance.first * first + balance.second * plain(unit.mean(0))).softmax(-1)
        assert text is not None  # a balance without a second classifier is that of the text
        cosines = TEXT_SCALE * (unit @ text.T).mean(0)
        return (balance.first * cosines + balance.second * first).softmax(-1)

    return head


def _joined(solved: Joined) -> Head:
    """Return the half by statistics, perhaps joined with the text half."""
    hidden, scores = _hidden(solved.maps.hidden), _linear(solved.scores)
    text, scale = _tensor(solved.text[0]), solved.text[1]
    first, second = solved.balance

    def head(rows: Tensor) -> Tensor:
        logits = second * scores(hidden(rows))
        if first:
            by_text = (scale * torch.einsum("bd,skd->bsk", rows, text)).softmax(-1).mean(1)
            logits = logits + first * by_text.clamp(min=1e-300).log()
        return logits.softmax(-1)

    return head


def _by_text(solved: ByText) -> Head:
    """Return zero-shot CLIP."""
    text = _tensor(solved.text)
    return lambda views: (solved.scale * functional.normalize(views[0], dim=-1) @ text.T).softmax(
        -1
    )


def _adapted(solved: Adapted) -> Head:
    """Return RAPF's adapter against the texts."""
    adapter, text = _tensor(solved.adapter), _tensor(solved.text)

    def head(views: Tensor) -> Tensor:
        unit = functional.normalize(views[0] @ adapter.T, dim=-1)
        return (solved.scale * unit @ text.T).softmax(-1)

    return head


def _vis(solved: Vis) -> Head:
    """Return VIS's mixer, random features and linear scores."""
    mixer, hidden, scores = _mixer(solved.mixer), _hidden(solved.maps.hidden), solved.scores
    last = _linear(scores)
    return lambda taps: last(hidden(mixer(taps))).softmax(-1)


_HEADS: dict[type, Callable[..., Head]] = {
    Solved: _solved,
    Joined: _joined,
    ByText: _by_text,
    Adapted: _adapted,
    Vis: _vis,
}


# ---- their parts --------------------------------------------------------------------------------


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).double()


def _linear(given: Linear) -> Head:
    """Return linear scores: rows (..., M) to logits (..., K)."""
    weights, bias = _tensor(given.weights), _tensor(given.bias)
    return lambda rows: given.scale * (rows @ weights + bias)


def _hidden(given: Hidden) -> Head:
    """Return the map to what is summed: (..., d) to (..., M)."""
    weights = None if given.weights is None else _tensor(given.weights)

    def hidden(rows: Tensor) -> Tensor:
        rows = functional.normalize(rows, dim=-1) if given.normalise else rows
        return rows if weights is None else functional.relu(rows @ weights)

    return hidden


def _mixer(given: Mixer) -> Head:
    """Return VIS's mixer: pooled tokens (L, B, d) to (B, d)."""
    scale, v, v_bias = _tensor(given.scale), _tensor(given.v), _tensor(given.v_bias)
    u, u_bias = _tensor(given.u), _tensor(given.u_bias)

    def mixer(taps: Tensor) -> Tensor:
        tokens = taps * scale[:, None, None]
        x = torch.cat(tokens.unbind(0), dim=1) @ v.T + v_bias
        # gelu in its form with tanh, written out: exporters may take the other form for doubles
        wave = torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
        return tokens[-1] + (0.5 * x * (1 + wave)) @ u.T + u_bias

    return mixer
