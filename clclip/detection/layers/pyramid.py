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


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at most 32 groups: no running statistics that drift from task to task."""
    return nn.GroupNorm(next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0), channels)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, h, w), at each place alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, same shape, in channels-last."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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
            return super().get_result_from_inner_blocks(x, idx)
        lateral, *rest = self.inner_blocks[idx]
        with torch.autocast(x.map.device.type, enabled=False):
            mix = lateral.weight.flatten(1)  # (channels, width); norm_layer leaves it no bias
            weight, bias = torch.einsum("oc,icyx->ioyx", mix, x.by.weight), mix @ x.by.bias
        out = functional.conv_transpose2d(x.map, weight, bias, stride=2)
        for layer in rest:
            out = layer(out)
        return out


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
    """Return a resampled channels-last map, on a CPU in the ordinary layout.

    There max-pooling is ten times as fast in channels-last, but GroupNorm's backward pass, and so
    all that follows, 25 times as slow.
    """
    if isinstance(resample, nn.MaxPool2d):
        x = resample(x)
        return x if x.is_cuda else x.contiguous()
    x = x if x.is_cuda else x.contiguous()
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
