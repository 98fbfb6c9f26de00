"""Non-maximum suppression of many groups of boxes at once, as an operator that can be exported.

The number of survivors depends on the data; a mask over the boxes does not, so that all that
follows has a fixed shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

ABSENT = -1.0
"""The score of a box that takes no part."""

_LEAST = -0.5


@torch.library.custom_op("clclip::survivors", mutates_args=())
def survivors(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Return which boxes survive among those of their group: bool (G, N).

    Args:
        boxes: (G, N, 4) xyxy.
        scores: (G, N); ``ABSENT``: the box takes no part and does not survive.
        iou: a box with more overlap with a better one of its group is suppressed.
    """
    mask = torch.zeros(scores.shape, dtype=torch.bool)
    for group in range(scores.shape[0]):
        present = torch.where(scores[group] > _LEAST)[0]
        own = boxes[group, present].double(), scores[group, present].double()
        mask[group, present[nms(*own, iou)]] = True
    return mask


@survivors.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def translations() -> dict[Any, Callable[..., Any]]:
    """Return how the operators of this module stand in an ONNX graph, for the exporter."""
    from onnxscript import opset18

    op: Any = opset18  # its types tell scalars from tensors, its functions take both

    def translated(boxes: Any, scores: Any, iou: float) -> Any:
        every = op.Constant(value_ints=[2**31 - 1])
        limits = op.Constant(value_floats=[iou]), op.Constant(value_floats=[_LEAST])
        classes = op.Unsqueeze(scores, op.Constant(value_ints=[1]))
        chosen = op.NonMaxSuppression(boxes, classes, every, *limits)  # (n, 3): group, 0, box
        places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        ones = op.Cast(op.Gather(op.Add(op.Mul(chosen, 0), 1), 0, axis=1), to=1)  # (n,)
        none = op.Mul(scores, 0.0)
        return op.Greater(op.ScatterND(none, places, ones), 0.5)

    return {torch.ops.clclip.survivors.default: translated}
