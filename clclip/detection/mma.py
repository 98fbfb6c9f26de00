"""``fvit_mma``: Modelling Missing Annotations (Cermelli et al., CVPR Workshops 2022) on F-ViT.

Published settings (Faster R-CNN R50-C4, VOC): region distillation weighs 1 for 1-2 new classes, 0.5
for 5, 0.1 for 10 (``distil_weight: null``), T = 1, proposals' distillation 1; first task lr 5e-3,
later ones 4e-4. Ours: F-ViT's regions and text columns; class-agnostic deltas, so the box term has
no class axis; which proposals are distilled is ABR's rule, 64 at random of the teacher's 128 best
(at most ``proposals_test``). Whether MMA's objectness gap is of logits or probabilities is not
known to us: logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clclip.detection.batch import Batch
from clclip.detection.distillation import (
    proposal_distillation,
    proposal_outputs,
    published_weight,
    teacher_regions,
    unbiased_cross_entropy,
    unbiased_distillation,
)
from clclip.detection.fvit import FViT, Pass

BEST, DRAWN = 128, 64  # of the teacher's proposals


class MmaFViT(FViT):
    """F-ViT with unbiased cross-entropy, unbiased region distillation and RPN distillation."""

    asks_teacher = True

    @property
    def distil_weight(self) -> float:
        """The weight of region distillation: the switch, or the published rule."""
        weight = self.switches.distil_weight
        return published_weight(len(self.text) - self.previous) if weight is None else weight

    def class_loss(self, logits: Tensor, column: Tensor) -> Tensor:
        """Return the unbiased cross-entropy."""
        return unbiased_cross_entropy(logits, column, self.previous)

    def distillation(self, batch: Batch, made: Pass) -> dict[str, Tensor]:
        """Return the distillation of proposals and of the teacher's regions."""
        teacher = self.teacher
        with torch.no_grad():
            levels = teacher.path.levels(batch.taps)
            before = proposal_outputs(teacher.path, levels)
            proposals, _ = teacher.path.propose(levels, batch.canvas)
            boxes = teacher_regions(proposals, batch.generators, BEST, DRAWN)
            vectors = teacher.path.vectors(teacher.path.regions(levels, boxes, batch.canvas))
            wanted, deltas = teacher.classifier(vectors, teacher.text), teacher.path.box(vectors)
        now = proposal_outputs(self.path, made.levels)
        vectors = self.path.vectors(self.path.regions(made.levels, boxes, batch.canvas))
        scores = unbiased_distillation(self.classifier(vectors, self.text), wanted, self.previous)
        moved = (self.path.box(vectors).float() - deltas.float()).pow(2).sum(1)
        return {
            "distil_rpn": self.switches.distil_rpn_weight * proposal_distillation(now, before),
            "distil_class": self.distil_weight * scores,
            "distil_box": self.distil_weight * moved.sum() / max(len(moved), 1),
        }
