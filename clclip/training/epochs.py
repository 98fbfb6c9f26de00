"""How long a task is trained; torch-free, because ``clclip describe`` asks as well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def epochs_of(training: Mapping[str, Any], steps_per_epoch: int) -> int:
    """Return a task's passes over its images: ``epochs``, or as many as make ``min_steps`` steps.

    A task of one class may have a twentieth of the images of the first; what starts from nothing
    there, a new class's own weights, needs steps and not passes (docs/ablation.md). No epochs: no
    training, whatever ``min_steps`` says.
    """
    needed = math.ceil(training["min_steps"] / steps_per_epoch)
    return max(training["epochs"], needed) if training["epochs"] else 0
