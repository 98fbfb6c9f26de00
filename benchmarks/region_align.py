"""Gradient of RoIAlign on a CPU against torchvision's: python benchmarks/region_align.py [--quick].

A step's regions of the cluttered world: 8 images, 64 channels, 256 regions of 7 x 7 bins on the
finest level (32 x 32 cells), and on a map at the limit of the products (64 x 64 cells).
"""

from __future__ import annotations

from collections.abc import Callable

import measure
import torch
from torch import Tensor
from torchvision.ops import roi_align

from clclip.detection.layers.region_align import region_align


def steps(cells: int, channels: int) -> dict[str, Callable[[], Tensor]]:
    """Return forward and backward of torchvision's and ours; both must give one gradient."""
    draws = torch.Generator().manual_seed(0)
    maps = torch.randn(8, channels, cells, cells, generator=draws).requires_grad_()
    corner = torch.rand(256, 2, generator=draws) * 3 * cells
    sides = 4 + torch.rand(256, 2, generator=draws) * cells
    image = torch.arange(8).repeat_interleave(32).float()[:, None]
    regions = torch.cat([image, corner, corner + sides], dim=1)
    back = torch.randn(256, channels, 7, 7, generator=draws)

    def gradient(pooled: Tensor) -> Tensor:
        return torch.autograd.grad(pooled, maps, back)[0]

    return {
        "torchvision": lambda: gradient(roi_align(maps, regions, 7, 0.25, aligned=True)),
        "products": lambda: gradient(region_align(maps, regions, 7, 0.25)),
    }


def main() -> None:
    """Measure and write region_align.json."""
    chosen = measure.options(__doc__)
    rows, rate = [], measure.gflops_of_machine()
    for cells in (8,) if chosen.quick else (32, 64):
        runs = steps(cells, 4 if chosen.quick else 64)
        first, second = (run() for run in runs.values())
        torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-4)
        seconds = measure.timed(runs, chosen.rounds, warm=2)
        rows += [
            {
                "cells": cells,
                "run": name,
                "ms": 1e3 * measure.median(seconds[name]),
                "x torchvision": measure.ratio(seconds[name], seconds["torchvision"]),
                # torchvision's kernel is no product: nothing of it is counted
                "floor ms": measure.floor_ms(runs[name], rate) if name == "products" else None,
            }
            for name in runs
        ]
    measure.write("region_align", chosen, rows)


if __name__ == "__main__":
    main()
