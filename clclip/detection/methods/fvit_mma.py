"""``fvit_mma``: Modelling Missing Annotations (Cermelli et al., CVPR Workshops 2022) on F-ViT.

Published settings (Faster R-CNN R50-C4, VOC): region distillation weighs 1 for 1-2 new classes, 0.5
for 5, 0.1 for 10 (``distil_weight: null``), T = 1, proposals' distillation 1; first task lr 5e-3,
later ones 4e-4. Ours: F-ViT's regions and text columns; class-agnostic deltas, so the box term has
no class axis; which proposals are distilled is ABR's rule, 64 at random of the teacher's 128 best
(at most ``proposals_test``); means over all anchors, where released code takes them level by level.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import (
    drawn_regions,
    proposal_distillation,
    proposal_outputs,
    published_weight,
    unbiased_cross_entropy,
    unbiased_distillation,
)
from clclip.detection.methods.fvit import FViT, Pass

BEST, DRAWN = 128, 64  # of the teacher's proposals


class MmaFViT(FViT):
    """F-ViT with unbiased cross-entropy, unbiased region distillation and RPN distillation."""

    asks_teacher = True

    @property
    def distil_weight(self) -> float:
        """The weight of region distillation: the switch, or the published rule."""
        weight = self.switches.distil_weight
        return published_weight(len(self.text) - self.previous) if weight is None else weight

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the unbiased cross-entropy and the number of regions."""
        return unbiased_cross_entropy(logits, column, self.previous), len(logits)

    def distillation(self, batch: Batch, made: Pass) -> dict[str, tuple[Tensor, int]]:
        """Return the distillation of proposals and of the teacher's regions."""
        levels, boxes = self.teacher_regions(batch)
        with torch.no_grad():
            before = proposal_outputs(self.teacher.path, levels)
        now = proposal_outputs(self.path, made.levels)
        weight = self.switches.distil_rpn_weight
        return {
            "distil_rpn": (weight * proposal_distillation(now, before), len(boxes)),
            **self.region_distillation(batch, made, levels, boxes),
        }

    @torch.no_grad()
    def teacher_regions(self, batch: Batch) -> tuple[OrderedDict[str, Tensor], list[Tensor]]:
        """Return the teacher's levels and, per image, the regions to distil."""
        levels = self.teacher.path.levels(batch.taps)
        proposals, _ = self.teacher.path.propose(levels, batch.canvas)
        return levels, drawn_regions(proposals, batch.generators, BEST, DRAWN)

    def region_distillation(
        self, batch: Batch, made: Pass, levels: OrderedDict[str, Tensor], boxes: list[Tensor]
    ) -> dict[str, tuple[Tensor, int]]:
        """Return the unbiased distillation of scores and the L2 distillation of boxes."""
        with torch.no_grad():
            wanted, wanted_deltas = self.teacher.outputs(levels, boxes)
        logits, deltas = self.outputs(made.levels, boxes)
        scores = unbiased_distillation(logits, wanted, self.previous)
        moved = (deltas - wanted_deltas).pow(2).sum(1)
        return {
            "distil_class": (self.distil_weight * scores, len(logits)),
            "distil_box": (self.distil_weight * moved.sum() / max(len(moved), 1), len(moved)),
        }
