"""The gate: the cost volume squashed to [0, 1] (CL-CLIP, item 2).

The gate of a class depends on the image and on that class's text alone, never on other task
classes, so adding a class leaves every other gate as it was.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clclip.clip.cost_volume import gate_logits


class CostRefiner(nn.Module):
    """A small net on each class's slice of the cost volume, its weights shared by all classes."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 7, padding=3), nn.GELU(), nn.Conv2d(width, 1, 3, padding=1)
        )
        nn.init.zeros_(self.net[-1].weight)  # starts as the identity
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, cost: Tensor) -> Tensor:
        """Return the refined volume (B, K, h, w)."""
        slices = cost.flatten(0, 1).unsqueeze(1)  # (B K, 1, h, w)
        return (slices + self.net(slices)).view_as(cost)


class Gate(nn.Module):
    """Squashes the cost volume; its few parameters are learned in task 1 and then frozen.

    Args:
        mode: "sigmoid" (a * (S - b)), "minmax" (per image and class), "softmax" (against fixed
            background prompts) or "off" (1 everywhere: no decoupling).
        refiner: refine the cost volume first.
    """

    def __init__(self, mode: str, refiner: bool = False) -> None:
        super().__init__()
        self.mode = mode
        self.log_slope = nn.Parameter(torch.tensor(math.log(20.0)))
        self.middle = nn.Parameter(torch.tensor(0.2))
        self.refiner = CostRefiner() if refiner else None

    @torch.no_grad()
    def calibrate(self, cost: Tensor) -> None:
        """Start from the data: the middle a deviation above the mean cost, the slope 2 / deviation.

        The mean cost then has the logit -2, where ``share`` has "none of them".

        Args:
            cost: (B, K, h, w) cost volume of training images.
        """
        self.middle.copy_(cost.mean() + cost.std())
        self.log_slope.copy_(torch.log(2.0 / cost.std().clamp(min=1e-4)))

    def share(self, prior: Tensor) -> Tensor:
        """Return each class's log share of a region among the classes of one task.

        It is the log of a softmax over the task's classes and one entry for "none of them", whose
        logit is -2: that of the mean cost which ``calibrate`` saw, and of a cost of middle - 2 /
        slope once task 1 has trained both. It depends on the classes of one task, so later tasks do
        not change it.

        Args:
            prior: (R, K) mean cost of the classes of one task.

        Returns:
            (R, K), below 0.
        """
        logits = gate_logits(prior, self.log_slope.exp(), self.middle)
        none = logits.new_full((len(logits), 1), -2.0)
        return logits - torch.logsumexp(torch.cat([logits, none], dim=1), dim=1, keepdim=True)

    def score(self, prior: Tensor) -> Tensor:
        """Return the frozen CLIP's score in [0, 1] of regions from their prior (item 8)."""
        return torch.sigmoid(gate_logits(prior, self.log_slope.exp(), self.middle))

    def forward(self, cost: Tensor, background: Tensor | None = None) -> Tensor:
        """Return the gate.

        Args:
            cost: (B, K, h, w) cost volume S of task classes.
            background: (B, N, h, w) cost volume of the fixed background prompts ("softmax" only).

        Returns:
            (B, K, h, w) in [0, 1].
        """
        if self.mode == "off":
            return torch.ones_like(cost)
        if self.refiner is not None:
            cost = self.refiner(cost)
        slope = self.log_slope.exp()
        if self.mode == "minmax":
            low, high = cost.amin((2, 3), keepdim=True), cost.amax((2, 3), keepdim=True)
            return (cost - low) / (high - low).clamp(min=1e-6)
        if self.mode == "softmax":
            if background is None:
                raise ValueError("got no background cost volume; expected one for a softmax gate")
            rest = torch.logsumexp(slope * background, 1, keepdim=True)
            return torch.sigmoid(slope * cost - rest)
        return torch.sigmoid(gate_logits(cost, slope, self.middle))
