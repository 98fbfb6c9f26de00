"""The orthogonality loss: cross-class spatial co-activation (CL-CLIP, item 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from clclip.detection.layers.region_maps import spatial_direction


def orthogonality_loss(own: Tensor, other: Tensor) -> Tensor:
    """Return the mean over pairs of <G_c, G_c'>^2.

    Args:
        own: (N, H, W) responses of the labelled classes.
        other: (N, H, W) responses of the other class of each pair; detach those of previous
            classes.

    Returns:
        a scalar; 0 without pairs.
    """
    if not len(own):
        return own.new_zeros(())
    return (spatial_direction(own) * spatial_direction(other)).sum(1).pow(2).mean()


def region_response_pairs(
    response: Tensor, region: Tensor, target: Tensor, regions: int
) -> tuple[Tensor, Tensor]:
    """Pair the response of each positive pair with those of the other classes in the same region.

    Args:
        response: (N, 7, 7) responses of the pairs.
        region: (N,) region of each pair.
        target: (N,) 1 where the pair's class is the region's label.
        regions: number of regions; asking the pairs for it would wait for the device.

    Returns:
        own (M, 7, 7) and other (M, 7, 7).
    """
    positive = torch.where(target > 0)[0]
    owner = torch.full((regions,), -1, device=region.device)
    owner[region[positive]] = positive
    other = torch.where((target == 0) & (owner[region] >= 0))[0]
    return response[owner[region[other]]], response[other]
