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
        regions: (R, 5): index of the image, then xyxy in pixels. They get no gradient.
        bins: bins a side.
        scale: cells per pixel.
    """
    products = maps.device.type == "cpu" and maps.shape[-2] * maps.shape[-1] <= LARGEST
    if products and (maps.requires_grad or maps.dtype == torch.bfloat16):
        return _ByProducts.apply(maps, regions, bins, scale)
    return roi_align(maps, regions, bins, scale, aligned=True)


class _ByProducts(torch.autograd.Function):
    """Image by image: what the regions of one need fits a core's cache."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, regions: Tensor, bins: int, scale: float) -> Tensor:
        ctx.save_for_backward(regions)
        ctx.shape, ctx.dtype, ctx.bins, ctx.scale = maps.shape, maps.dtype, bins, scale
        if maps.dtype != torch.bfloat16:
            return roi_align(maps, regions, bins, scale, aligned=True)
        channels, _, width = maps.shape[1:]
        pooled = maps.new_empty(len(regions), bins, bins, channels).permute(0, 3, 1, 2)
        for own, rows, columns, image in _weights(regions, maps.shape, bins, scale, maps.dtype):
            half = rows.flatten(0, 1) @ maps[image].transpose(0, 1).flatten(1)  # (R_i bins, C w)
            half = half.view(len(own), bins * channels, width) @ columns.transpose(1, 2)
            pooled[own] = half.view(len(own), bins, channels, bins).transpose(1, 2)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (regions,) = ctx.saved_tensors
        _, channels, _, width = ctx.shape
        dtype = torch.promote_types(ctx.dtype, grad.dtype)
        gradient = grad.new_zeros(ctx.shape, dtype=dtype)
        for own, rows, columns, image in _weights(regions, ctx.shape, ctx.bins, ctx.scale, dtype):
            pooled = grad[own].to(dtype).transpose(1, 2).flatten(1, 2)  # (R_i, bins C, bins)
            half = (pooled @ columns).unflatten(1, (ctx.bins, channels))  # .. x (R_i, bins, w)
            summed = rows.flatten(0, 1).T @ half.flatten(0, 1).flatten(1)  # (h, C w)
            gradient[image] = summed.unflatten(1, (channels, width)).transpose(0, 1)
        return gradient, None, None, None


def _weights(
    regions: Tensor, shape: Sequence[int], bins: int, scale: float, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """Yield the places of each image's regions, their weights of rows and of columns, the image."""
    x1, y1, x2, y2 = (regions[:, 1:] * scale - 0.5).unbind(1)
    rows = axis_weights(y1, y2, bins, shape[2]).to(dtype)
    columns = axis_weights(x1, x2, bins, shape[3]).to(dtype)
    for image in range(shape[0]):
        own = torch.where(regions[:, 0] == image)[0]
        yield own, rows[own], columns[own], image


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
    weights = (1 - (at - grid).abs()).clamp(min=0) * counts[..., None]
    return weights.sum(2) / samples[:, None, None]


__all__ = ["axis_weights", "region_align"]
