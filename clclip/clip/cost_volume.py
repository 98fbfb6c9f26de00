"""The cost volume: similarity of every place of an image to every class, by a frozen CLIP.

What the gate makes of it stands here too, because the detector's gate and the report's pictures of
it are the same numbers. Imports torch when a volume is computed only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Values = Any  # a tensor or an array


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
    import torch

    if dense.ndim != 4 or text.ndim != 2 or dense.shape[1] != text.shape[1]:
        shapes = f"dense {tuple(dense.shape)} and text {tuple(text.shape)}"
        raise ValueError(f"got {shapes}; expected (B, d, h, w) and (K, d) of equal d")
    # as many products as images, so that the tokens need not be moved; in float32 at least, as
    # bf16 would take longer on a CPU and costs of two classes lie close together
    with torch.autocast(dense.device.type, enabled=False):
        cost = (text @ dense.flatten(2).to(text.dtype)).unflatten(2, dense.shape[2:])
    # rounding may carry a cosine of unit vectors a little beyond one
    return cost.clamp(-1.0, 1.0)


def gate_logits(cost: Values, slope: Values | float, middle: Values | float) -> Values:
    """Return a (S - b), whose sigmoid is the gate of a cost volume S: slope a > 0, middle b.

    Plain arithmetic, for tensors and arrays: the report draws gates without torch.
    """
    return slope * (cost - middle)
