"""Gradient checkpointing: less memory for more time, where ``speed.checkpoint`` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from clclip.core.machine import speed


def checkpointed(run: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``run(*arguments)``; activations are stored for the backward pass, or recomputed.

    The detectors draw no random numbers inside, so recomputing gives the same values.
    """
    if speed().checkpoint and torch.is_grad_enabled():
        return checkpoint(run, *arguments, use_reentrant=False, preserve_rng_state=False)
    return run(*arguments)
