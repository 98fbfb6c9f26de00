"""From the frozen tower's taps to a feature pyramid (F-ViT, section 1.1 of its description)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at most 32 groups: no running statistics that drift from task to task."""
    return nn.GroupNorm(next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0), channels)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, h, w), at each place alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, same shape.

        On a CPU in the ordinary layout: GroupNorm's backward pass takes 25 times as long in
        channels-last, which all that follows would inherit from the permutation.
        """
        x = super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x if x.is_cuda else x.contiguous()


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
        self.fpn = FeaturePyramidNetwork(
            [width] * len(self.scales),
            channels,
            extra_blocks=LastLevelMaxPool() if extra_level else None,
            norm_layer=group_norm,
        )

    def forward(self, taps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        """Return the levels {"0": (B, channels, h0, w0), ...}, finest first, plus "pool"."""
        maps = OrderedDict(
            (str(i), resample(norm(tap)))
            for i, (tap, norm, resample) in enumerate(
                zip(taps, self.norms, self.resamplers, strict=True)
            )
        )
        return self.fpn(maps)


def feature_drift(levels: dict[str, Tensor], reference: dict[str, Tensor]) -> Tensor:
    """Return sum_l mean |P_l - P_l'|^2, the feature form of L_drift (CL-CLIP, item 5)."""
    terms = [(levels[name] - reference[name]).pow(2).mean() for name in reference]
    return torch.stack(terms).sum()
