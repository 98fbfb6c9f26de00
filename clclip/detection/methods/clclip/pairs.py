"""Which (region, class) pairs the experts work on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clclip.detection.methods.clclip.experts import sort_pairs


@torch.no_grad()
def training_pairs(
    labels: Tensor,
    image: Tensor,
    prior: Tensor,
    generators: Sequence[torch.Generator],
    negatives: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose positives and sampled negatives of the current classes.

    A background region teaches the ``negatives`` classes that its prior suggests most, and one at
    random; a positive region teaches its own class and four times as many negatives, because
    telling classes apart is learned there.

    Args:
        labels: (R,) index of the current class, or negative for background.
        image: (R,) index of the image.
        prior: (R, K) mean cost of each class in each region.
        generators: one per image.
        negatives: classes per background region.

    Returns:
        region (N,), column (N,), target (N,) in {0, 1}; sorted by column.
    """
    count, classes = prior.shape
    chosen = torch.zeros(count, classes, dtype=torch.bool, device=prior.device)
    positive = labels >= 0
    ranked = prior.argsort(dim=1, descending=True, stable=True)
    many = min(4 * negatives, classes)
    chosen[torch.where(positive)[0][:, None], ranked[positive, :many]] = True
    few = min(negatives, classes)
    chosen[torch.where(~positive)[0][:, None], ranked[~positive, :few]] = True
    for n, draws in enumerate(generators):
        members = torch.where(image == n)[0]
        drawn = torch.randint(classes, (len(members),), generator=draws).to(prior.device)
        chosen[members, drawn] = True
    chosen[torch.where(positive)[0], labels[positive]] = True
    region, column = sort_pairs(*torch.where(chosen))
    return region, column, (labels[region] == column).float()


@torch.no_grad()
def routed_pairs(
    value: Tensor, threshold: Tensor, route: str, cap: int = 0
) -> tuple[Tensor, Tensor]:
    """Choose the pairs scored at inference.

    A pair is scored if its prior, or its share of the region, exceeds its class's own fixed
    threshold, so no class competes with another for a slot (CL-CLIP, fast experts). ``cap`` breaks
    that on purpose and is off by default.

    Args:
        value: (R, K) priors, or shares among the classes of a task.
        threshold: (K,).
        route: "share", "prior" or "all".
        cap: at most so many classes per region, those of highest value among the ones that exceed
            their thresholds; 0: no cap.

    Returns:
        region (N,), column (N,), sorted by column.
    """
    chosen = torch.ones_like(value, dtype=torch.bool)
    if route != "all":
        chosen = value > threshold
    if cap and cap < value.shape[1]:
        best = torch.zeros_like(chosen)
        open_ = value.masked_fill(~chosen, -torch.inf)
        best.scatter_(1, open_.topk(cap, dim=1).indices, True)
        chosen &= best
    return sort_pairs(*torch.where(chosen))
