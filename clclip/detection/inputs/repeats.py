"""Repeat factor sampling: images with rare classes are shown more often (LVIS, section 6.2).

Gupta, Dollar, Girshick: LVIS, CVPR 2019. There an epoch grows with the repeats; here it keeps its
number of images, so that a task costs what it cost and schedules keep their meaning: what rare
classes gain in views, images with frequent classes alone lose.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def repeat_factors(labels: Sequence[Tensor], threshold: float) -> Tensor:
    """Return how often each image is wanted against one with frequent classes alone.

    With f_c the share of images that show class c, r_c = max(1, sqrt(threshold / f_c)); an image's
    factor is the largest of its classes, 1 without objects.

    Args:
        labels: (G_i,) classes of each image's objects.
        threshold: share of images below which a class counts as rare.

    Returns:
        (N,) factors from 1 on.
    """
    shown = [torch.unique(own).tolist() for own in labels]
    images: dict[int, int] = {}
    for own in shown:
        for label in own:
            images[label] = images.get(label, 0) + 1
    of_class = {
        label: max(1.0, (threshold * len(labels) / count) ** 0.5) for label, count in images.items()
    }
    factors = [max((of_class[label] for label in own), default=1.0) for own in shown]
    return torch.tensor(factors, dtype=torch.float64)


def repeated_order(factors: Tensor, draws: torch.Generator) -> list[int]:
    """Return one epoch's order of N images, in which image i comes N r_i / sum(r) times on average.

    Systematic sampling along a random order: the number of times is that number rounded up or
    down, so a rare image is missing from no epoch.

    Args:
        factors: (N,) of ``repeat_factors``.
        draws: the epoch's generator.
    """
    count = len(factors)
    mixed = torch.randperm(count, generator=draws)
    ends = torch.cumsum(factors[mixed], 0) * (count / factors.sum())
    start = torch.rand((), generator=draws, dtype=torch.float64)
    passed = torch.floor(ends + start).long()
    passed[-1] = count  # rounding of the sum must not lose or add an image
    times = torch.diff(passed, prepend=torch.zeros(1, dtype=torch.long))
    chosen = torch.repeat_interleave(mixed, times)
    return chosen[torch.randperm(count, generator=draws)].tolist()
