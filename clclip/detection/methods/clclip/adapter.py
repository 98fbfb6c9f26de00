"""A later task's path as small residual adapters on the frozen pyramid of task 1."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.pyramid import group_norm
from clclip.detection.options import DetectorOptions


class LevelAdapter(nn.Module):
    """x + up(relu(norm(conv(down x)))): a bottleneck that starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 8)
        self.net = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            group_norm(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, channels, 1),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted level (B, channels, h, w)."""
        return x + self.net(x)


class ResidualPath(SharedPath):
    """Adapters per level, with proposals, RoI layers and box regression of its own.

    The pyramid, which costs most, is task 1's: its levels are computed once for all tasks.
    """

    def __init__(
        self, width: int, stride: float, options: DetectorOptions, text_width: int = 0
    ) -> None:
        super().__init__(width, stride, options, text_width)
        del self.pyramid
        levels = len(options.scales) + options.extra_level
        self.adapters = nn.ModuleList(LevelAdapter(options.channels) for _ in range(levels))

    def levels(
        self, taps: Sequence[Tensor], base: OrderedDict[str, Tensor] | None = None
    ) -> OrderedDict[str, Tensor]:
        """Return the adapted levels of ``base``, the levels of task 1's path."""
        if base is None:
            raise ValueError("got no levels of task 1; expected them for residual adapters")
        return OrderedDict(
            (name, adapter(level))
            for (name, level), adapter in zip(base.items(), self.adapters, strict=True)
        )

    def start_from(self, path: SharedPath) -> None:
        """Copy what both paths have; after task 1, which has none, adapters are the identity."""
        own = set(self.state_dict())
        state = {name: value for name, value in path.state_dict().items() if name in own}
        self.load_state_dict(state, strict=False)
