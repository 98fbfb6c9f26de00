"""One global batch in shares: micro-batches one after another, processes side by side.

Every loss is a mean over elements of its batch (sampled anchors, positives, images, pairs). A share
knows the means over its own elements and their number, so the loss of the whole batch is
``sum_m value_m count_m / sum_m count_m``. Gradients are accumulated under those normalisers of the
whole batch: that needs the counts of all shares before the first backward pass, so micro-batches
are counted in a pass without gradients first. Sampling is seeded per image, hence a share draws
for its images what the whole batch would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from clclip.training import parallel

Member = TypeVar("Member")


class Losses(dict[str, Tensor]):
    """Named, already weighted losses of a batch; each is a mean over ``count(name)`` elements.

    Args:
        images: number of images, the count of every loss that gives none.
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.counts: dict[str, int | Tensor] = {}

    def add(self, name: str, value: Tensor, count: int | Tensor) -> None:
        """Add a loss that is ``total / max(count, 1)``."""
        self[name], self.counts[name] = value, count

    def count(self, name: str) -> float:
        """Return the number of elements that a loss is averaged over (divisor at least 1)."""
        return float(self.counts.get(name, self.images))


@dataclass(frozen=True)
class Share:
    """The ``index``-th of ``of`` shares of every global batch."""

    index: int = 0
    of: int = 1

    def part(self, members: Sequence[Member]) -> Sequence[Member]:
        """Return this share of the members of a batch; empty if there are too few."""
        count = len(members)
        return members[self.index * count // self.of : (self.index + 1) * count // self.of]


WHOLE = Share()
LossesAt = Callable[
    [int, Share], Losses | dict[str, Tensor] | None
]  # a dict: of whole batches only


def micro_batches(batch_size: int, attempt: int) -> int:
    """Return into how many micro-batches a process takes its share of a batch.

    Every retry halves the images at once: an attempt that ran out of memory is followed by
    one that needs less. A step's gradient is the same up to rounding (3e-7); over many steps
    rounding may let two proposals change places. ``fvit_ior``'s balance is that of each part.
    """
    largest = max(1, batch_size // 2 ** (attempt - 1))
    return max(1, math.ceil(batch_size / (largest * parallel.processes())))


def own_shares(micro_batches: int) -> list[Share]:
    """Return this process's shares, if every process has ``micro_batches`` of them."""
    of = parallel.processes() * micro_batches
    first = parallel.rank() * micro_batches
    return [Share(first + k, of) for k in range(micro_batches)]


def backward(
    losses_at: LossesAt, step: int, shares: Sequence[Share], parameters: Sequence[nn.Parameter]
) -> dict[str, Tensor]:
    """Put the gradient of the whole batch's losses into the parameters.

    Args:
        losses_at: returns the losses of a share at a step, or None for a share without images.
        step: the 0-based step.
        shares: this process's shares.
        parameters: those whose gradients are summed over the processes.

    Returns:
        the detached losses of the whole batch.
    """
    if shares[0].of == 1:
        losses = losses_at(step, WHOLE)
        torch.stack([value.float() for value in losses.values()]).sum().backward()  # type: ignore[union-attr]  # never None
        return {name: value.detach() for name, value in losses.items()}  # type: ignore[union-attr]  # never None
    losses_once = None
    if len(shares) == 1:
        losses_once = losses_at(step, shares[0])
        totals = _totals([losses_once])  # type: ignore[list-item]  # a Losses
    else:
        with torch.no_grad():
            totals = _totals([losses_at(step, share) for share in shares])  # type: ignore[misc]  # Losses
    device = parameters[0].device
    sums = {name: torch.zeros((), device=device) for name in totals}
    for share in shares:
        losses = losses_once if len(shares) == 1 else losses_at(step, share)
        if losses is None:
            continue
        parts = {
            name: value.float() * (max(losses.count(name), 1.0) / totals[name])  # type: ignore[attr-defined]  # Losses
            for name, value in losses.items()
        }
        torch.stack(list(parts.values())).sum().backward()
        for name, value in parts.items():
            sums[name] += value.detach()
    parallel.sum_gradients(parameters, list(sums.values()))
    return sums


def _totals(per_share: Sequence[Losses | None]) -> dict[str, float]:
    """Return the normaliser of every loss over all shares of all processes."""
    counts = [{name: losses.count(name) for name in losses} for losses in per_share if losses]
    totals: dict[str, float] = {}
    for own in parallel.gathered(counts):
        for part in own:
            for name, count in part.items():
                totals[name] = totals.get(name, 0.0) + count
    return {name: max(count, 1.0) for name, count in totals.items()}
