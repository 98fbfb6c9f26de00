"""RoIAlign by matrix products an image, where a CPU takes less time over them.

RoIAlign is linear and separable: bin (i, j) of a region is sum_hw Wy[i, h] Wx[j, w] F[h, w], so
its gradient is sum_r Wy_r^T G_r Wx_r. torchvision's gradient adds every sample to four cells one by
one, a sixth of a training step. In float32 the forward pass stays torchvision's, bit for bit; of
bf16 maps, which that would copy to float32 first, it is products as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchvision.ops import roi_align

LARGEST = 4096  # cells of a map: beyond, adding sample by sample costs less than the products


def region_align(maps: Tensor, regions: Tensor, bins: int, scale: float) -> Tensor:
    """Return aligned RoIAlign (R, C, bins, bins) with as many samples a bin as the size asks for.

    Args:
        maps: (B, C, h, w).
        regions: (R, 5): index of the image, ascending, then xyxy in pixels. They get no gradient.
        bins: bins a side.
        scale: cells per pixel.

    Raises:
        ValueError: if regions do not follow their images, where products are taken.
    """
    products = maps.device.type == "cpu" and maps.shape[-2] * maps.shape[-1] <= LARGEST
    if products and (maps.requires_grad or maps.dtype == torch.bfloat16):
        if (regions[1:, 0] < regions[:-1, 0]).any():
            raise ValueError("got regions out of order; expected those of each image in turn")
        return _ByProducts.apply(maps, regions, bins, scale)
    return roi_align(maps, regions, bins, scale, aligned=True)


class _ByProducts(torch.autograd.Function):
    """Image by image: what the regions of one need fits a core's cache."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, regions: Tensor, bins: int, scale: float) -> Tensor:
        height, width = maps.shape[2:]
        x1, y1, x2, y2 = (regions[:, 1:] * scale - 0.5).unbind(1)
        rows = axis_weights(y1, y2, bins, height).to(maps.dtype)
        columns = axis_weights(x1, x2, bins, width).to(maps.dtype)
        ctx.save_for_backward(rows, columns)
        ctx.shape, ctx.bins = maps.shape, bins
        ctx.counts = torch.bincount(regions[:, 0].long(), minlength=len(maps)).tolist()
        if maps.dtype != torch.bfloat16:
            return roi_align(maps, regions, bins, scale, aligned=True)
        pooled = [maps.new_zeros(0, bins, bins, maps.shape[1])]
        for image, row, column in _by_image(ctx.counts, rows, columns):
            # (R_i bins, h) x (h, C w), then (R_i, bins C, w) x (R_i, w, bins)
            half = row.flatten(0, 1) @ maps[image].transpose(0, 1).flatten(1)
            half = half.view(len(row), -1, width) @ column.transpose(1, 2)
            pooled.append(half.unflatten(1, (bins, -1)).transpose(2, 3))
        return torch.cat(pooled).permute(0, 3, 1, 2)  # (R, bins, bins, C) as it lies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, columns = ctx.saved_tensors
        channels, _, width = ctx.shape[1:]
        gradient = rows.new_zeros(ctx.shape)
        for image, row, column, own in _by_image(ctx.counts, rows, columns, grad):
            own = own.to(rows.dtype).transpose(1, 2).flatten(1, 2)  # (R_i, bins C, bins)
            half = (own @ column).unflatten(1, (ctx.bins, channels))  # .. x (R_i, bins, w)
            summed = row.flatten(0, 1).T @ half.flatten(0, 1).flatten(1)  # (h, C w)
            gradient[image] = summed.unflatten(1, (channels, width)).transpose(0, 1)
        return gradient, None, None, None


def _by_image(counts: Sequence[int], *values: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield each image that has regions, and its part of values (R, ...)."""
    for image, own in enumerate(zip(*(value.split(counts) for value in values), strict=True)):
        if counts[image]:
            yield image, *own


def axis_weights(low: Tensor, high: Tensor, bins: int, cells: int) -> Tensor:
    """Return the weights (R, bins, cells) by which RoIAlign reads one axis.

    Args:
        low: (R,) where the regions begin, in cells (0: the first cell's centre).
        high: (R,) where they end.
        bins: bins along the axis.
        cells: cells along the axis.
    """
    size = (high - low) / bins
    samples = torch.ceil(size).clamp(min=1)  # torchvision's rule: a sample a cell
    most = int(samples.max()) if len(samples) else 1
    step = (torch.arange(most, device=low.device) + 0.5) / samples[:, None]  # (R, most)
    bin_ = torch.arange(bins, device=low.device, dtype=low.dtype)
    at = low[:, None, None] + (bin_[:, None] + step[:, None, :]) * size[:, None, None]
    # RoIAlign reads nothing farther out than a cell; samples beyond a region's own do not count
    counts = (at >= -1) & (at <= cells) & (step < 1)[:, None, :]
    at = at.clamp(0, cells - 1)[..., None]
    grid = torch.arange(cells, device=low.device, dtype=low.dtype)
    # in place: the largest array of a training step's gradient
    weights = (at - grid).abs_().neg_().add_(1).clamp_(min=0).mul_(counts[..., None])
    return weights.sum(2) / samples[:, None, None]


__all__ = ["axis_weights", "region_align"]
