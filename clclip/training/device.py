"""Where training runs, and in which precision."""

from __future__ import annotations

import contextlib

import torch


def training_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU.

    Which of several is decided outside, by ``CUDA_VISIBLE_DEVICES``.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(name: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the autocast context of ``training.precision``: "fp32" (none) or "bf16"."""
    if name == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
