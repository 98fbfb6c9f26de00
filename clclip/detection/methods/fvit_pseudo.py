"""``fvit_pseudo``: the previous model's detections become labels of old classes on new images.

Published settings (of other detectors; there is no published F-ViT row): BPF takes detections above
0.75 whose IoU with a labelled object is below 0.7; MD-DETR above 0.65, at most five an image. The
row has pseudo-labels alone, without those methods' distillation.
"""

from __future__ import annotations

from torch import Tensor

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.guard import apply_guard
from clclip.detection.methods.fvit import FViT
from clclip.detection.options.fvit import PseudoOptions


class PseudoFViT(FViT):
    """F-ViT that learns old classes from what it detected before the task."""

    options: PseudoOptions
    asks_teacher = True

    def seen_targets(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the labelled objects and the previous model's detections above a threshold."""
        targets = super().seen_targets(batch)
        if self.teacher is None:
            return targets
        s = self.options
        detections = self.teacher.detect(batch)
        return apply_guard(targets, detections, "pseudo", s.pseudo_threshold, s.guard_overlap)
