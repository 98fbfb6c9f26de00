"""What a task keeps constant, computed once per image: why SECA's step costs about H-PEFT's.

There is no augmentation, so the tokens before the first adapter, the plain CLIP feature and the
vectors under every pooled snapshot do not change during a task. All of them share the pass over the
part before the first adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.pixels import Pixels, chunks
from clclip.classification.seca.adapters import Stem, VisualTower

STEM_BYTES = 2**30  # tokens before the first adapter are kept up to this
EVAL_BATCH = 64


@dataclass
class Frozen:
    """Constants of a task, by training image.

    Attributes:
        stem: tokens at the first adapter, or None if they do not fit (they are then made per
            batch).
        raw: un-normalised CLIP features (N, d).
        vectors: unit vectors V (N, P, D) under the pooled snapshots, in eval mode; None without
            teachers.
    """

    stem: Stem | None
    raw: Tensor
    vectors: Tensor | None


@torch.no_grad()
def compute_frozen(
    tower: VisualTower, images: Pixels, teachers: Sequence[nn.ModuleList], keep_stem: bool
) -> Frozen:
    """Run the images through plain CLIP and through every teacher.

    Args:
        tower: the image tower.
        images: the training images.
        teachers: adapter snapshots of the pool.
        keep_stem: keep the tokens before the first adapter, if they fit.
    """
    stems, raw, vectors = [], [], []
    for rows in chunks(len(images), EVAL_BATCH):
        stem = tower.stem(images[rows])
        raw.append(tower.feature(stem, None))
        if teachers:
            pooled = [tower.pool(tower.tokens(stem, adapters)) for adapters in teachers]
            vectors.append(F.normalize(torch.stack(pooled, dim=1), dim=-1))
        keep_stem = keep_stem and 8 * stem.h[0].numel() * len(images) <= STEM_BYTES
        if keep_stem:
            stems.append(stem)
    joined = None
    if keep_stem:
        joined = Stem(
            torch.cat([s.h for s in stems]), torch.cat([s.fed for s in stems]), stems[0].context
        )
    return Frozen(joined, torch.cat(raw), torch.cat(vectors) if vectors else None)


def raw_prototypes(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return unit class means (classes, d) of un-normalised features (N, d), labels (N,)."""
    sums = torch.zeros(classes, features.shape[1], dtype=features.dtype, device=features.device)
    sums.index_add_(0, labels, features)
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return F.normalize(sums / counts[:, None], dim=-1)
