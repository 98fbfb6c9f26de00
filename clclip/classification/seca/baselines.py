"""Teachers and classifiers that SECA is compared with; each is a value of a switch.

Teachers (``distillation``): raw CLIP, the last snapshot, the mean of the pool. Their answers do not
change during a task, so they are computed once per image. Visual halves (``classifier``): raw CLIP
centroids, centroids of adapted features, a cosine-linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.options import CLASSIFIERS
from clclip.classification.records import Memory
from clclip.classification.seca.adapters import VisualTower
from clclip.classification.seca.frozen import Frozen


def fixed_teacher(
    teacher: str, tower: VisualTower, frozen: Frozen, pool: list[int], last: int
) -> Tensor:
    """Return the unit features (N, d) of a teacher that needs no training.

    Args:
        teacher: "clip", "previous" or "average".
        tower: gives the projection.
        frozen: plain features and the vectors under the pool's snapshots.
        pool: tasks of the snapshots.
        last: the task before this one; its snapshot is always the newest of the pool.
    """
    if teacher == "clip":
        return F.normalize(frozen.raw, dim=-1)
    vectors = frozen.vectors  # (N, P, D)
    assert vectors is not None  # kept where there are teachers
    mixed = vectors[:, pool.index(last)] if teacher == "previous" else vectors.mean(dim=1)
    with torch.no_grad():
        return F.normalize(tower.project(mixed), dim=-1)


def new_linear(classes: int, width: int, generator: torch.Generator) -> nn.Parameter:
    """Return the weights (classes, width) of the new rows of a cosine-linear classifier."""
    return nn.Parameter(torch.randn(classes, width, generator=generator) / width**0.5)


def prototypes(classifier: str, memory: Memory) -> Tensor | None:
    """Return the visual half's unit prototypes (K, d) of the seen classes; None: text alone."""
    if classifier == "text" or classifier in CLASSIFIERS:
        return None
    if classifier == "sevpr":
        return memory.refined()
    name = {"centroid": "raw", "adapted_centroid": "centroid", "linear": "linear"}[classifier]
    rows = memory.rows(name)
    return None if rows is None else F.normalize(rows, dim=-1)
