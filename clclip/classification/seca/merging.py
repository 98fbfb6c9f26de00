"""MagMax (ECCV 2024, arXiv 2407.06322): fine-tuned towers merged by their largest changes.

Every task fine-tunes the tower from where the last one left it and stores its weights. The
classifier is the pretrained tower plus a merged task vector: of the changes
``tau_t = theta_t - theta_0`` each weight takes the one of the largest magnitude (``magmax``) or
their mean (``mean``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SCALES = {"magmax": 0.5, "mean": 1.0}
"""Published factors on the merged task vector (danielm1405/magmax, merge_splitted.py)."""


def merged(
    pretrained: Mapping[str, Tensor],
    tasks: Sequence[Mapping[str, Tensor]],
    rule: str,
    scale: float | None = None,
) -> dict[str, Tensor]:
    """Return the weights of the merged tower.

    Args:
        pretrained: theta_0 by name.
        tasks: theta_t of tasks 1..t, of the same names and shapes.
        rule: "magmax" or "mean".
        scale: factor on the merged task vector; None: the published one.
    """
    factor = SCALES[rule] if scale is None else scale
    result = {}
    for name, start in pretrained.items():
        changes = torch.stack([task[name].to(start) - start for task in tasks])
        if rule == "magmax":
            largest = changes.abs().argmax(dim=0, keepdim=True)
            change = changes.gather(0, largest)[0]
        else:
            change = changes.mean(dim=0)
        result[name] = start + factor * change
    return result
