"""Data-parallel training with torch.distributed; with one process everything here does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

Value = TypeVar("Value")


def processes() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; process 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def gathered(value: Value) -> list[Value]:
    """Return every process's value, in order of rank."""
    if processes() == 1:
        return [value]
    values: list[Value] = [value] * processes()
    distributed.all_gather_object(values, value)
    return values


def sum_gradients(parameters: Sequence[nn.Parameter], scalars: Sequence[Tensor] = ()) -> None:
    """Sum gradients, and further scalars, over the processes, in place.

    A parameter without a gradient in every process stays without one, as in a single process.
    """
    if processes() == 1:
        return
    device = parameters[0].device
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    distributed.all_reduce(used)
    members = [p for p, count in zip(parameters, used.tolist(), strict=True) if count]
    for parameter in members:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    pieces = [p.grad for p in members] + [scalar.view(1) for scalar in scalars]
    flat = torch.cat([piece.detach().float().flatten() for piece in pieces])
    distributed.all_reduce(flat)
    for piece, total in zip(pieces, flat.split([p.numel() for p in pieces]), strict=True):
        piece.copy_(total.view_as(piece))


@torch.no_grad()
def sum_changes(value: Tensor, before: Tensor) -> None:
    """Add up, in place, by how much every process has changed a value that all had in common."""
    if processes() > 1:
        value -= before
        distributed.all_reduce(value)
        value += before


@torch.no_grad()
def share_from_first(tensors: Sequence[Tensor]) -> None:
    """Give every process the first one's tensors: kernels of a GPU need not agree to the bit."""
    if processes() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)
