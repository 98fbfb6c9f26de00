"""From the frozen tower's taps to a feature pyramid (F-ViT, section 1.1 of its description)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
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

    Half precision takes much less of it in channels-last. Float32 gains little on a CPU and keeps
    the ordinary layout there: the published numbers rest on its rounding.
    """
    if torch.is_autocast_enabled(x.device.type):
        return x.contiguous(memory_format=torch.channels_last)
    return x if x.is_cuda else x.contiguous()


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map enlarged to a size (height, width), each place as its nearest one.

    Without a gradient by two copies where it doubles: a third of ``interpolate``'s time in the
    ordinary layout of a CPU.
    """
    doubles = [2 * side for side in x.shape[-2:]] == list(size)
    if doubles and x.is_contiguous() and not torch.is_grad_enabled():
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    return functional.interpolate(x, size=size, mode="nearest")


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
    """A map that is still to be doubled and mixed to a level's channels, by ``folded`` weights."""

    map: Tensor  # (B, width, h, w)
    weight: Tensor  # (2, 2, channels, width)
    bias: Tensor  # (channels,)


def folded(double: nn.ConvTranspose2d, lateral: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a transposed convolution and the 1x1 convolution after it in one.

    They are two linear maps. One with their product of weights takes a quarter of the arithmetic
    and rounds otherwise.
    """
    with torch.autocast(double.weight.device.type, enabled=False):
        mix = lateral.weight.flatten(1)  # (channels, width); before a norm it has no bias
        return torch.einsum("oc,icyx->yxoi", mix, double.weight), mix @ double.bias


class LateralFolding(FeaturePyramidNetwork):
    """torchvision's network, whose lateral convolutions also double what is ``Unresampled``."""

    def forward(self, x: Mapping[str, Tensor | Unresampled]) -> OrderedDict[str, Tensor]:
        """Return the levels, as torchvision does; without gradients top-down maps double faster."""
        if torch.is_grad_enabled():
            return super().forward(x)
        names, maps = list(x), list(x.values())
        inner = self.get_result_from_inner_blocks(maps[-1], -1)
        levels = [self.get_result_from_layer_blocks(inner, -1)]
        for k in reversed(range(len(maps) - 1)):
            lateral = self.get_result_from_inner_blocks(maps[k], k)
            inner = lateral + enlarged(inner, lateral.shape[-2:])
            levels.insert(0, self.get_result_from_layer_blocks(inner, k))
        if self.extra_blocks is not None:
            levels, names = self.extra_blocks(levels, maps, names)
        return OrderedDict(zip(names, levels, strict=True))

    def get_result_from_inner_blocks(self, x: Tensor | Unresampled, idx: int) -> Tensor:
        """Return the lateral map of a level."""
        if not isinstance(x, Unresampled):
            return laid_out(super().get_result_from_inner_blocks(x, idx))
        out = _doubled(x)
        for layer in list(self.inner_blocks[idx])[1:]:
            out = layer(out)
        return laid_out(out)


def _doubled(x: Unresampled) -> Tensor:
    """Return the map doubled by its weights, (B, channels, 2 h, 2 w)."""
    if not torch.is_autocast_enabled(x.map.device.type):
        return functional.conv_transpose2d(x.map, x.weight.permute(3, 2, 0, 1), x.bias, stride=2)
    # for training: a product, then the four neighbours of each place put side by side, whose
    # gradient takes a third of a transposed convolution's time on a CPU
    tokens = x.map.permute(0, 2, 3, 1)
    out = functional.linear(tokens, x.weight.flatten(0, 2), x.bias.repeat(4))
    out = out.unflatten(-1, (2, 2, -1)).transpose(2, 3)  # (B, h, 2, w, 2, channels)
    return out.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


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

        Under autocast, and once ``fold`` was called, the last doubling of a level is left to its
        lateral convolution; in float32 training, whose results are published, nothing is to round
        otherwise.
        """
        maps = OrderedDict(
            (str(i), self._resampled(i, norm(tap)))
            for i, (tap, norm) in enumerate(zip(taps, self.norms, strict=True))
        )
        return self.fpn(maps)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold doublings into lateral convolutions for good: weights must not change any more."""
        for level in range(len(self.scales)):
            if (double := self._doubling(level)) is not None:
                for name, value in zip("wb", folded(double, self._lateral(level)), strict=True):
                    self.register_buffer(f"folded_{name}{level}", value, persistent=False)

    def _doubling(self, level: int) -> nn.ConvTranspose2d | None:
        """Return the last part of a level's resampling, if that doubles it."""
        last = list(self.resamplers[level].modules())[-1]
        return last if isinstance(last, nn.ConvTranspose2d) else None

    def _lateral(self, level: int) -> nn.Conv2d:
        return self.fpn.inner_blocks[level][0]

    def _resampled(self, level: int, x: Tensor) -> Tensor | Unresampled:
        """Return a resampled channels-last map, laid out for the convolutions that follow."""
        resample, double = self.resamplers[level], self._doubling(level)
        if isinstance(resample, nn.MaxPool2d):
            return laid_out(resample(x))  # ten times as fast in channels-last on a CPU
        ready = hasattr(self, f"folded_w{level}")
        if double is None or not (ready or torch.is_autocast_enabled(x.device.type)):
            return resample(laid_out(x))
        if isinstance(resample, nn.Sequential):
            x = resample[:-1](laid_out(x))
        if ready:
            weight, bias = (getattr(self, f"folded_{name}{level}") for name in "wb")
        else:
            weight, bias = folded(double, self._lateral(level))
        return Unresampled(x, weight, bias)


def feature_drift(levels: dict[str, Tensor], reference: dict[str, Tensor]) -> Tensor:
    """Return sum_l mean |P_l - P_l'|^2, the feature form of L_drift (CL-CLIP, item 5)."""
    terms = [(levels[name] - reference[name]).pow(2).mean() for name in reference]
    return torch.stack(terms).sum()
