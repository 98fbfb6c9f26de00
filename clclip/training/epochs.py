"""How long a task is trained; torch-free, because ``clclip describe`` uses it too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def epochs_of(training: Mapping[str, Any], steps_per_epoch: int) -> int:
    """Return a task's passes over its images: ``epochs``, or as many as make ``min_steps`` steps.

    A task of one class may have a twentieth of the images of the first, but its new weights, which
    start from scratch, need as many steps (docs/ablation.md). With 0 epochs there is no training,
    whatever ``min_steps`` is.
    """
    needed = math.ceil(training["min_steps"] / steps_per_epoch)
    return max(training["epochs"], needed) if training["epochs"] else 0
