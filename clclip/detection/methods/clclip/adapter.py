"""A later task's path as small residual adapters on the frozen pyramid of task 1."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.pyramid import enlarged, group_norm
from clclip.detection.options.detector import DetectorOptions


class LevelAdapter(nn.Module):
    """x + up(relu(norm(conv(down x + side tap)))): a bottleneck that starts as the identity.

    The level was trained for the classes of task 1. What they did not need is still in the tap that
    it was made of, so the adapter reads that besides, by a lateral 1x1 convolution.

    Args:
        channels: of the level.
        width: channels of the tower's tap.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        inner = max(channels // 2, 8)
        self.down = nn.Conv2d(channels, inner, 1, bias=False)
        # not a LayerNorm of taps as in the pyramid: more than half as costly as all else here
        self.side = nn.Sequential(nn.Conv2d(width, inner, 1, bias=False), group_norm(inner))
        self.net = nn.Sequential(
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            group_norm(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, channels, 1),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor, tap: Tensor) -> Tensor:
        """Return the adapted level (B, channels, h, w), given its tap (B, width, h', w')."""
        side = enlarged(self.side(tap), x.shape[-2:])
        return x + self.net(self.down(x) + side)


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
        self.adapters = nn.ModuleList(LevelAdapter(options.channels, width) for _ in range(levels))

    def levels(
        self, taps: Sequence[Tensor], base: OrderedDict[str, Tensor] | None = None
    ) -> OrderedDict[str, Tensor]:
        """Return the adapted levels.

        Args:
            taps: of the tower, (B, width, h, w) each.
            base: the levels of task 1's path.

        Raises:
            ValueError: without ``base``.
        """
        if base is None:
            raise ValueError("got no levels of task 1; expected them for residual adapters")
        read = [*taps, taps[-1]][: len(base)]  # an extra level reads the last tap
        adapted = zip(base.items(), self.adapters, read, strict=True)
        return OrderedDict((name, adapter(level, tap)) for (name, level), adapter, tap in adapted)

    def fold(self) -> None:
        """Fold nothing: what could be is task 1's."""

    def start_from(self, path: SharedPath) -> None:
        """Copy what both paths have; after task 1, which has none, adapters are the identity."""
        own = set(self.state_dict())
        state = {name: value for name, value in path.state_dict().items() if name in own}
        self.load_state_dict(state, strict=False)
