"""Ways to run the experts on their pairs: which one is fastest depends on the device.

All take the stacked weights of a bank and pairs sorted by class, and return the same numbers up to
rounding. ``loop`` walks over the classes present: on a CPU its convolutions run at full speed and
their inputs stay in the cache. It must know on the host how many pairs each class has. ``blocks``
packs the pairs into blocks of one class each and multiplies all blocks at once; the number of
blocks depends on the number of pairs and classes alone, so nothing waits for the device.
``grouped`` is a grouped convolution over the classes present, padded to the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from clclip.core.machine import speed

# by measurement: benchmarks/expert_bank.py on a CPU; elsewhere no host-device synchronisation
FASTEST = {"cpu": "loop"}
ELSEWHERE = "blocks"
BLOCK = 16  # pairs of a block


class Stacked(NamedTuple):
    """The weights of K experts, class after class."""

    convs: Sequence[Tensor]  # per layer (K, width, channels, 3, 3)
    conv_bias: Sequence[Tensor]  # per layer (K, width)
    score: Tensor  # (K, width * 49)
    box: Tensor | None  # (K, 4, width * 49)


class ExpertOutput(NamedTuple):
    """Outputs of the experts for N (region, class) pairs, before beta and bias."""

    scores: Tensor  # (N,)
    activations: Tensor  # (N, width, 7, 7)
    deltas: Tensor | None  # (N, 4)


Dispatch = Callable[[Stacked, Tensor, Tensor], ExpertOutput]


def dispatch_on(device: torch.device) -> Dispatch:
    """Return how experts run on a device: as ``speed.experts`` says, else the fastest."""
    chosen = speed().experts
    return DISPATCHES[FASTEST.get(device.type, ELSEWHERE) if chosen == "auto" else chosen]


def product(activations: Tensor, weights: Tensor) -> Tensor:
    """Return ``activations @ weights`` in the weights' precision, under autocast too.

    Scores are compared, and a CPU multiplies bf16 matrices by a vector slowly.
    """
    with torch.autocast(activations.device.type, enabled=False):
        return activations.to(weights.dtype) @ weights


def loop(bank: Stacked, features: Tensor, columns: Tensor) -> ExpertOutput:
    """Run class after class, those without pairs left out."""
    counts = torch.bincount(columns, minlength=len(bank.score)).tolist()
    # unbind once: its backward stacks the slices, where indexing would fill a full-size zero
    # gradient per class
    convs = [conv.unbind() for conv in bank.convs]
    biases = [bias.unbind() for bias in bank.conv_bias]
    scores, boxes = bank.score.unbind(), None if bank.box is None else bank.box.unbind()
    logits, activations, deltas = [], [], []
    for k, x in enumerate(features.split(counts)):
        if not counts[k]:
            continue
        for layer, (conv, bias) in enumerate(zip(convs, biases, strict=True)):
            x = functional.conv2d(functional.relu(x) if layer else x, conv[k], bias[k], padding=1)
        x = functional.relu(x.contiguous())  # the gradients that reach it have the ordinary layout
        activations.append(x)
        flat = x.flatten(1)
        logits.append(product(flat, scores[k]))
        if boxes is not None:
            deltas.append(product(flat, boxes[k].T))
    if not logits:
        return _no_pairs(bank, features)
    return ExpertOutput(
        torch.cat(logits), torch.cat(activations), torch.cat(deltas) if deltas else None
    )


def grouped(bank: Stacked, features: Tensor, columns: Tensor) -> ExpertOutput:
    """Run one convolution with a group per class present, each padded to the most pairs."""
    if not len(columns):
        return _no_pairs(bank, features)
    present, owner, counts = columns.unique_consecutive(return_inverse=True, return_counts=True)
    classes, most = len(present), int(counts.max())
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(columns), device=columns.device) - first[owner]
    place = rank * classes + owner
    x = features.new_zeros(most * classes, *features.shape[1:]).index_copy(0, place, features)
    x = x.view(most, -1, *features.shape[2:])  # (most, classes * channels, 7, 7)
    for conv, bias in zip(bank.convs, bank.conv_bias, strict=True):
        weight, offset = conv[present].flatten(0, 1), bias[present].flatten()
        x = functional.relu(functional.conv2d(x, weight, offset, padding=1, groups=classes))
    flat = x.view(most, classes, -1).transpose(0, 1)  # (classes, most, width * 49)
    order = owner * most + rank
    score = product(flat, bank.score[present].unsqueeze(2)).flatten()[order]
    deltas = None
    if bank.box is not None:
        deltas = product(flat, bank.box[present].transpose(1, 2)).flatten(0, 1)[order]
    return ExpertOutput(score, x.reshape(most * classes, -1, *features.shape[2:])[place], deltas)


def blocks(bank: Stacked, features: Tensor, columns: Tensor) -> ExpertOutput:
    """Run batched matrix products over blocks of pairs of one class."""
    if not len(columns):
        return _no_pairs(bank, features)
    owner, place = _blocks(columns, len(bank.score))
    count, side = len(owner), features.shape[2:]
    x = features.new_zeros(count * BLOCK, *features.shape[1:]).index_copy(0, place, features)
    for conv, bias in zip(bank.convs, bank.conv_bias, strict=True):
        patches = functional.unfold(x, 3, padding=1)  # (slots, channels * 9, 49)
        patches = patches.view(count, BLOCK, *patches.shape[1:]).transpose(1, 2).flatten(2)
        y = conv.flatten(2)[owner] @ patches + bias[owner].unsqueeze(2)  # (blocks, width, .. * 49)
        y = functional.relu(y).view(count, -1, BLOCK, side.numel())
        x = y.transpose(1, 2).reshape(count * BLOCK, -1, *side)
    flat = x.view(count, BLOCK, -1)
    score = product(flat, bank.score[owner].unsqueeze(2)).flatten()[place]
    deltas = None
    if bank.box is not None:
        deltas = product(flat, bank.box[owner].transpose(1, 2)).flatten(0, 1)[place]
    return ExpertOutput(score, x[place], deltas)


def _blocks(columns: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the class of every block, and every pair's slot; nothing waits for the device."""
    count = len(columns) // BLOCK + classes  # at least the sum of every class's own blocks
    pairs = columns.new_zeros(classes).index_add(0, columns, torch.ones_like(columns))
    own = (pairs + BLOCK - 1) // BLOCK
    ends = own.cumsum(0)
    rank = torch.arange(len(columns), device=columns.device) - (pairs.cumsum(0) - pairs)[columns]
    place = ((ends - own)[columns] + rank // BLOCK) * BLOCK + rank % BLOCK
    owner = torch.searchsorted(ends, torch.arange(count, device=columns.device), right=True)
    return owner.clamp(max=classes - 1), place


def _no_pairs(bank: Stacked, features: Tensor) -> ExpertOutput:
    """Return the output for no pairs."""
    activations = features.new_zeros(0, bank.convs[-1].shape[1], *features.shape[2:])
    deltas = features.new_zeros(0, 4) if bank.box is not None else None
    return ExpertOutput(features.new_zeros(0), activations, deltas)


DISPATCHES: dict[str, Dispatch] = {"loop": loop, "grouped": grouped, "blocks": blocks}
