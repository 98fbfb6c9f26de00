"""From the frozen tower's taps to a feature pyramid (F-ViT, section 1.1 of its description)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm; on a CPU it returns the ordinary layout, as channels-last is slow there.

    Up to fifty times as slow: by way of a copy it takes less, for the same numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, same shape."""
        return super().forward(x if x.is_cuda else x.contiguous())


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at most 32 groups: no running statistics that drift from task to task."""
    return GroupNorm(next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0), channels)


def laid_out(x: Tensor) -> Tensor:
    """Return a map (B, C, h, w) in the layout in which its convolutions take least time.

    Half precision takes a third of the time in channels-last. Float32 gains little on a CPU and
    keeps the ordinary layout there: the published numbers rest on its rounding.
    """
    if torch.is_autocast_enabled(x.device.type):
        return x.contiguous(memory_format=torch.channels_last)
    return x if x.is_cuda else x.contiguous()


class Conv2d(nn.Conv2d):
    """torch's convolution, its input ``laid_out``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        return super().forward(laid_out(x))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, h, w), at each place alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, same shape, in channels-last."""
        # laid out once: torch would do it again in the backward pass
        return super().forward(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)


def resampler(width: int, scale: float) -> nn.Module:
    """Return the module that resamples a token map (B, width, h, w) by ``scale``, same width.

    Raises:
        ValueError: if the scale is not 4, 2, 1 or 0.5.
    """
    if scale == 4:
        return nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, stride=2),
            group_norm(width),
            nn.GELU(),
            nn.ConvTranspose2d(width, width, 2, stride=2),
        )
    if scale == 2:
        return nn.ConvTranspose2d(width, width, 2, stride=2)
    if scale == 1:
        return nn.Identity()
    if scale == 0.5:
        return nn.MaxPool2d(2, stride=2)
    raise ValueError(f"got scale {scale}; expected 4, 2, 1 or 0.5")


class Unresampled(NamedTuple):
    """A map that a transposed convolution is still to double."""

    map: Tensor
    by: nn.ConvTranspose2d


class LateralFolding(FeaturePyramidNetwork):
    """torchvision's network, whose lateral convolutions also double what is ``Unresampled``.

    A transposed convolution and the 1x1 convolution after it are two linear maps. One with their
    product of weights takes a quarter of the arithmetic and rounds otherwise.
    """

    def get_result_from_inner_blocks(self, x: Tensor | Unresampled, idx: int) -> Tensor:
        """Return the lateral map of a level."""
        if not isinstance(x, Unresampled):
            return laid_out(super().get_result_from_inner_blocks(x, idx))
        lateral, *rest = self.inner_blocks[idx]
        with torch.autocast(x.map.device.type, enabled=False):
            mix = lateral.weight.flatten(1)  # (channels, width); norm_layer leaves it no bias
            weight, bias = torch.einsum("oc,icyx->yxoi", mix, x.by.weight), mix @ x.by.bias
        # a product, then the four neighbours of each place put side by side: on a CPU its gradient
        # takes a third of a transposed convolution's time
        out = functional.linear(x.map.permute(0, 2, 3, 1), weight.flatten(0, 2), bias.repeat(4))
        out = out.unflatten(-1, (2, 2, -1)).transpose(2, 3)  # (B, h, 2, w, 2, channels)
        out = out.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        for layer in rest:
            out = layer(out)
        return laid_out(out)


class Pyramid(nn.Module):
    """Resamplers and a feature pyramid network over the taps of a frozen tower.

    Args:
        width: channels of each tap.
        scales: resampling of each level; level i reads tap i.
        channels: channels of every level.
        extra_level: append a level by max-pooling.
    """

    def __init__(
        self, width: int, scales: Sequence[float], channels: int, extra_level: bool = False
    ) -> None:
        super().__init__()
        self.scales = tuple(scales)
        # The residual stream of a ViT grows with depth; without a norm the levels differ by
        # orders of magnitude and one learning rate does not fit all.
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in scales)
        self.resamplers = nn.ModuleList(resampler(width, scale) for scale in scales)
        self.fpn = LateralFolding(
            [width] * len(self.scales),
            channels,
            extra_blocks=LastLevelMaxPool() if extra_level else None,
            norm_layer=group_norm,
        )

    def forward(self, taps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        """Return the levels {"0": (B, channels, h0, w0), ...}, finest first, plus "pool".

        Under autocast the last doubling of a level is left to its lateral convolution; in float32,
        whose results are published, nothing is to round otherwise.
        """
        maps = OrderedDict(
            (str(i), _resampled(resample, norm(tap)))
            for i, (tap, norm, resample) in enumerate(
                zip(taps, self.norms, self.resamplers, strict=True)
            )
        )
        return self.fpn(maps)


def _resampled(resample: nn.Module, x: Tensor) -> Tensor | Unresampled:
    """Return a resampled channels-last map, laid out for the convolutions that follow."""
    if isinstance(resample, nn.MaxPool2d):
        return laid_out(resample(x))  # ten times as fast in channels-last on a CPU
    x = laid_out(x)
    if torch.is_autocast_enabled(x.device.type):
        if isinstance(resample, nn.ConvTranspose2d):
            return Unresampled(x, resample)
        if isinstance(resample, nn.Sequential):
            return Unresampled(resample[:-1](x), resample[-1])
    return resample(x)


def feature_drift(levels: dict[str, Tensor], reference: dict[str, Tensor]) -> Tensor:
    """Return sum_l mean |P_l - P_l'|^2, the feature form of L_drift (CL-CLIP, item 5)."""
    terms = [(levels[name] - reference[name]).pow(2).mean() for name in reference]
    return torch.stack(terms).sum()
