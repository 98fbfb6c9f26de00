"""Gradient checkpointing: less memory for more time, where ``speed.checkpoint`` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from clclip.core.machine import speed


def recomputed(run: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``run(*arguments)``; its inner values are kept for the backward pass, or made again.

    Nothing in the detectors draws random numbers between forward and backward, so the same values
    come out.
    """
    if speed().checkpoint and torch.is_grad_enabled():
        return checkpoint(run, *arguments, use_reentrant=False, preserve_rng_state=False)
    return run(*arguments)
