"""Distillation of regions from the model before the task, which MMA and ABR share."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import (
    drawn_regions,
    published_weight,
    unbiased_distillation,
)
from clclip.detection.methods.two_stage import TrainingPass, TwoStageDetector
from clclip.detection.options.fvit import DistilledOptions

BEST, DRAWN = 128, 64  # of the teacher's proposals


class DistilledDetector(TwoStageDetector):
    """A detector whose region outputs are distilled from the model before the task."""

    options: DistilledOptions
    asks_teacher = True

    @property
    def distil_weight(self) -> float:
        """The weight of region distillation: the option, or the published rule."""
        weight = self.options.distil_weight
        return published_weight(len(self.text) - self.previous) if weight is None else weight

    @torch.no_grad()
    def teacher_regions(self, batch: Batch) -> tuple[OrderedDict[str, Tensor], list[Tensor]]:
        """Return the teacher's levels and, per image, the regions to distil."""
        levels = self.teacher.path.levels(batch.taps)  # type: ignore[union-attr]  # from task 2 on
        proposals, _ = self.teacher.path.propose(levels, batch.canvas)  # type: ignore[union-attr]  # from task 2 on
        return levels, drawn_regions(proposals, batch.generators, BEST, DRAWN)

    def region_distillation(
        self,
        batch: Batch,
        student: TrainingPass,
        levels: OrderedDict[str, Tensor],
        boxes: list[Tensor],
    ) -> dict[str, tuple[Tensor, int]]:
        """Return the unbiased distillation of scores and the L2 distillation of boxes."""
        with torch.no_grad():
            wanted, wanted_deltas = self.teacher.outputs(levels, boxes)  # type: ignore[union-attr]  # from task 2 on
        logits, deltas = self.outputs(student.levels, boxes)
        scores = unbiased_distillation(logits, wanted, self.previous)
        moved = (deltas - wanted_deltas).pow(2).sum(1)
        return {
            "distil_class": (self.distil_weight * scores, len(logits)),
            "distil_box": (self.distil_weight * moved.sum() / max(len(moved), 1), len(moved)),
        }
