"""F-ViT (``fvit``, ``fvit_current``, ``joint``): the baseline, fine-tuned on each task's labels.

Ours: with ``columns: current`` the training softmax spans the current classes and background only,
so that no text column of an earlier class is pushed away.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clclip.detection.methods.two_stage import TwoStageDetector
from clclip.detection.options.fvit import FViTOptions


class FViT(TwoStageDetector):
    """F-ViT with either column rule."""

    options: FViTOptions

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the cross-entropy and the number of regions that count."""
        if self.options.columns == "all":
            return super().class_loss(logits, column)
        column = torch.where(column >= 0, column, logits.shape[1] - 1)
        known = column >= self.previous  # not objects of previous classes that a guard teaches
        logits, column = logits[known, self.previous :], column[known] - self.previous
        return functional.cross_entropy(logits, column), len(logits)
