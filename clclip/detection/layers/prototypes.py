"""Region prototypes of a class: one coarse and several fine, from features and no pictures.

Coarse is the mean of the class's region features, fine are the means of groups of similar regions
(k-means), so that outlines, faint objects and plain ones each have one of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ROUNDS = 10


@torch.no_grad()
def class_prototypes(regions: Tensor, fine: int) -> Tensor:
    """Return the prototypes of one class.

    Args:
        regions: (N, C, h, w) features of the class's labelled objects, N >= 1.
        fine: number of groups; fewer objects make fewer groups.

    Returns:
        (1 + fine, C, h, w): the coarse prototype first. Where there are fewer groups than asked,
        the coarse one stands in for the rest.
    """
    rows = regions.float()
    coarse = rows.mean(0, keepdim=True)
    if fine == 0:
        return coarse
    group = grouped(rows.flatten(1), min(fine, len(rows)))
    means = [rows[group == k].mean(0, keepdim=True) for k in group.unique().tolist()]
    return torch.cat([coarse, *means, *[coarse] * (fine - len(means))])


def grouped(rows: Tensor, count: int) -> Tensor:
    """Return the group (N,) of each row (N, D) by k-means on the unit sphere; no draws take part.

    It starts from the rows that lie farthest from those chosen before, the first one nearest to the
    mean, so equal rows give equal groups on every run.
    """
    unit = functional.normalize(rows, dim=1)
    chosen = [int((unit @ functional.normalize(unit.mean(0), dim=0)).argmax())]
    while len(chosen) < count:
        nearest = (unit @ unit[chosen].T).amax(1)
        nearest[chosen] = 2.0  # no row twice
        chosen.append(int(nearest.argmin()))
    centres = unit[chosen]
    group = (unit @ centres.T).argmax(1)
    for _ in range(ROUNDS):
        sums = torch.zeros_like(centres).index_add_(0, group, unit)
        full = sums.norm(dim=1) > 0
        centres = torch.where(full[:, None], functional.normalize(sums, dim=1), centres)
        moved = (unit @ centres.T).argmax(1)
        if torch.equal(moved, group):
            break
        group = moved
    return group
