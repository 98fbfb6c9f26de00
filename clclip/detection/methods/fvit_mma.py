"""``fvit_mma``: Modelling Missing Annotations (Cermelli et al., CVPR Workshops 2022) on F-ViT.

Published settings (Faster R-CNN R50-C4, VOC): region distillation weighs 1 for 1-2 new classes, 0.5
for 5, 0.1 for 10 (``distil_weight: null``), T = 1, proposals' distillation 1; first task lr 5e-3,
later ones 4e-4. Ours: F-ViT's regions and text columns; class-agnostic deltas, so the box term has
no class axis; which proposals are distilled is ABR's rule, 64 at random of the teacher's 128 best
(at most ``proposals_test``); means over all anchors, where released code takes them level by level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import (
    proposal_distillation,
    rpn_outputs,
    unbiased_cross_entropy,
)
from clclip.detection.methods.distilled import DistilledDetector
from clclip.detection.methods.two_stage import TrainingPass
from clclip.detection.options.fvit import MmaOptions


class MmaFViT(DistilledDetector):
    """F-ViT with unbiased cross-entropy, unbiased region distillation and RPN distillation."""

    options: MmaOptions

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the unbiased cross-entropy and the number of regions."""
        return unbiased_cross_entropy(logits, column, self.previous), len(logits)

    def distillation(self, batch: Batch, student: TrainingPass) -> dict[str, tuple[Tensor, int]]:
        """Return the distillation of proposals and of the teacher's regions."""
        levels, boxes = self.teacher_regions(batch)
        with torch.no_grad():
            before = rpn_outputs(self.teacher.path, levels)  # type: ignore[union-attr]  # from task 2 on
        now = rpn_outputs(self.path, student.levels)
        weight = self.options.distil_rpn_weight
        return {
            "distil_rpn": (weight * proposal_distillation(now, before), len(boxes)),
            **self.region_distillation(batch, student, levels, boxes),
        }
