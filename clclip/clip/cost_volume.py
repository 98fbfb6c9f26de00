"""The cost volume: how much every place of an image looks like every class, by a frozen CLIP.

The two parameter-free ways to squash it to [0, 1] stand here too, because the detector's gate and
the report's pictures of it are the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cost_volume(dense: Tensor, text: Tensor) -> Tensor:
    """Return the cosine of dense tokens and class texts, S_c = <D, t_c>.

    The value of a class depends on the image and on its own text alone, so adding classes leaves it
    as it was.

    Args:
        dense: (B, d, h, w), unit norm over d.
        text: (K, d), unit rows.

    Returns:
        (B, K, h, w) in [-1, 1].

    Raises:
        ValueError: if the widths differ.
    """
    if dense.ndim != 4 or text.ndim != 2 or dense.shape[1] != text.shape[1]:
        shapes = f"dense {tuple(dense.shape)} and text {tuple(text.shape)}"
        raise ValueError(f"got {shapes}; expected (B, d, h, w) and (K, d) of equal d")
    # rounding may carry a cosine of unit vectors a little beyond one
    return torch.einsum("bdhw,kd->bkhw", dense, text).clamp(-1.0, 1.0)


def sigmoid_gate(cost: Tensor, slope: Tensor | float, middle: Tensor | float) -> Tensor:
    """Return sigmoid(a (S - b)) of a cost volume S of any shape, with slope a > 0 and middle b."""
    return torch.sigmoid(slope * (cost - middle))


def minmax_gate(cost: Tensor) -> Tensor:
    """Return a cost volume (..., h, w) with each map stretched to [0, 1]; a flat map gives 0."""
    low, high = cost.amin((-2, -1), keepdim=True), cost.amax((-2, -1), keepdim=True)
    return (cost - low) / (high - low).clamp(min=1e-6)
