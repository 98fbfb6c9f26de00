"""Where training runs, and in which precision."""

from __future__ import annotations

import contextlib

import torch
from torch.nn import Module

from clclip.core.machine import speed


def training_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU.

    Which of several is decided outside, by ``CUDA_VISIBLE_DEVICES``.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(model: Module, device: torch.device, mode: str = "fp32") -> Module:
    """Move a model to a device, its convolutions to the memory format of ``speed``.

    Args:
        model: the model.
        device: where to.
        mode: ``training.precision``, on which it depends what a CPU takes least time over.
    """
    chosen = speed().channels_last
    model.to(device)
    if (device.type != "cpu" or mode == "bf16") if chosen is None else chosen:
        for parameter in model.parameters():
            if parameter.dim() == 4:  # the experts' stacked weights have five
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return model


def precision(name: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the autocast context of ``training.precision``: "fp32" (none) or "bf16"."""
    if name == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
