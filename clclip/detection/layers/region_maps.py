"""Maps of classes: seen through regions, pooled in boxes, compared in space."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from clclip.detection.layers.path import REGION


class RegionMaps:
    """Class maps seen through regions, at RoIAlign's 7 x 7 samples (one a bin), class by class.

    With one sample a bin RoIAlign is separable: row weights (7, h) times the map times column
    weights (w, 7). Means over a region are then one matrix product whatever the number of classes,
    and the bins are worked out for the pairs that are asked for alone.

    Args:
        maps: (B, K, h, w).
        boxes: per image (R_i, 4) xyxy in canvas pixels.
        stride: canvas pixels per cell of the maps.
    """

    def __init__(self, maps: Tensor, boxes: list[Tensor], stride: float) -> None:
        self.maps = maps if maps.dtype == torch.float64 else maps.float()
        self.counts = [len(own) for own in boxes]
        box = torch.cat(boxes).to(self.maps.dtype)
        height, width = maps.shape[-2:]
        self.rows = _bilinear(box[:, 1], box[:, 3], height, stride)
        self.columns = _bilinear(box[:, 0], box[:, 2], width, stride)
        owner = torch.repeat_interleave(torch.arange(len(boxes)), torch.tensor(self.counts))
        self.image = owner.to(maps.device, non_blocking=True)

    def means(self) -> Tensor:
        """Return the mean of every class's map in every region, (R, K)."""
        with torch.autocast(self.maps.device.type, enabled=False):
            weights = self.rows.mean(1)[:, :, None] * self.columns.mean(1)[:, None, :]
            parts = weights.flatten(1).split(self.counts)
            return torch.cat(
                [own @ m.flatten(1).T for own, m in zip(parts, self.maps, strict=True)]
            )

    def __getitem__(self, pairs: tuple[Tensor, Tensor]) -> Tensor:
        """Return the bins (N, 7, 7) of pairs (region (N,), class (N,))."""
        region, column = pairs
        with torch.autocast(self.maps.device.type, enabled=False):
            maps = self.maps[self.image[region], column]  # (N, h, w)
            return self.rows[region] @ maps @ self.columns[region].transpose(1, 2)

    def of(self, maps: Tensor) -> RegionMaps:
        """Return other maps of the same size seen through the same regions."""
        other = object.__new__(RegionMaps)
        other.__dict__.update(self.__dict__)
        other.maps = maps.to(self.maps.dtype)
        return other


def _bilinear(low: Tensor, high: Tensor, cells: int, stride: float) -> Tensor:
    """Return the weights (R, 7, cells) of RoIAlign's samples along one axis."""
    bins = (torch.arange(REGION, device=low.device, dtype=low.dtype) + 0.5) / REGION
    at = (low / stride - 0.5)[:, None] + bins * ((high - low) / stride)[:, None]
    inside = (at >= -1) & (at <= cells)  # RoIAlign reads nothing farther out
    at = at.clamp(0, cells - 1)[:, :, None]
    grid = torch.arange(cells, device=low.device, dtype=low.dtype)
    return (1 - (at - grid).abs()).clamp(min=0) * inside[:, :, None]


def pool_maps(maps: Tensor, boxes: list[Tensor], stride: float) -> Tensor:
    """Return RoIAlign of class maps (B, K, h, w) in the boxes of all images: (R, K, 7, 7)."""
    return roi_align(
        maps, boxes, REGION, spatial_scale=1.0 / stride, sampling_ratio=1, aligned=True
    )


def spatial_direction(response: Tensor) -> Tensor:
    """Return mean-free, unit-length responses: (N, H, W) -> (N, H W).

    Raw non-negative responses have a cosine near 1 whatever they show, hence the mean is removed.
    """
    v = response.flatten(1)
    v = v - v.mean(1, keepdim=True)
    return v / (v.norm(dim=1, keepdim=True) + 1e-6)
