"""Mean and spread of an image's tokens: two moments of what it shows, instead of one.

CLIP's image feature says what the tokens of an image show on average, or what a class token made
of them. The standard deviation over the patch tokens, each projected on its own into the same
space, says how much of that differs within the image (mean and deviation as a pooled feature:
statistics pooling, Snyder et al., Interspeech 2017). Both come from the pass that is made anyway.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clclip.classification.seca.adapters import VisualTower

SPREAD_WEIGHT = 2.0
"""Length of the spread beside a feature of length 1; of 1, 2 and 4, chosen on validation images."""


def moments(tower: VisualTower, images: Tensor) -> Tensor:
    """Return the unit image feature with the unit spread of patch tokens behind it, (B, 2 d).

    Args:
        tower: plain CLIP's.
        images: (B, 3, S, S), normalised.
    """
    tokens = tower.tokens(tower.stem(images), None)
    patches = tower.trunk.head(tokens[:, tower.trunk.prefix :])  # (B, n, d)
    spread = patches.std(dim=1, correction=0)
    feature = tower.project(tower.pool(tokens))
    halves = (functional.normalize(feature, dim=-1), functional.normalize(spread, dim=-1))
    return torch.cat([halves[0], SPREAD_WEIGHT * halves[1]], dim=-1)
