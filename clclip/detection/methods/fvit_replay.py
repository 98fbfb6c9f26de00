"""``fvit_replay``: Augmented Box Replay (ABR, Liu et al., ICCV 2023) on F-ViT.

After a task, boxes of its classes nearest to their class's mean are stored as pictures; later
images show them by mixup (1/4 of the time) or mosaic (1/4), and losses are inclusive:
L = L_rpn + L_ICL + L_box + alpha (L_ID,cls + L_ID,box) + beta (L_AFD + gamma L_PAD).

Published settings (Faster R-CNN R50-C4, VOC): 2000 boxes, none smaller than 70 px both ways; alpha
1, 0.5, 0.1 for 1-2, 5, 10 new classes; beta 0.5 for 10+10, else 1; gamma 0.5 to 5; Beta(2, 5), two
candidates, overlap 0.3; 64 of the teacher's 128 best proposals. As released, replayed regions have
no class loss (``old_label: zero``); whether the paper means that is not known to us, and ``ce`` is
the default here. Ours: the selection by F-ViT's region embedding, L_ARD on pyramid features (on the
frozen tower's it would be zero), grey = the tower's mean colour, no repeats of scarce boxes.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional

from clclip.core.task import current_classes, previous_classes, seen_classes
from clclip.detection.inputs.dataset import FeatureBatches, LabelledImage
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import attentive_distillation, unbiased_cross_entropy
from clclip.detection.layers.guard import with_objects
from clclip.detection.methods.detector import Rehearsal, RehearsalTask, Stored
from clclip.detection.methods.distilled import DistilledDetector
from clclip.detection.methods.rehearsal.batches import (
    PastedBatches,
    earlier_weights,
    pixel_source,
)
from clclip.detection.methods.rehearsal.memory import (
    Crop,
    cut,
    nearest_to_mean,
    packed,
    quota,
    read_memory,
    trimmed,
)
from clclip.detection.methods.rehearsal.pasting import (
    ABR_RULE,
    Pasted,
    drawn,
    mixup,
    mosaic,
    sized,
    uniform,
)
from clclip.detection.methods.two_stage import TrainingPass
from clclip.detection.options.fvit import ReplayOptions

logger = logging.getLogger(__name__)


class ReplayFViT(DistilledDetector):
    """F-ViT with inclusive losses, region and attentive distillation; pasted boxes are labels."""

    options: ReplayOptions

    def labelled(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the labelled objects and the pasted ones."""
        return [
            with_objects(target, target["old_boxes"], target["old_labels"])
            if "old_boxes" in target
            else target
            for target in super().labelled(batch)
        ]

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the inclusive classification loss and the number of regions."""
        loss = unbiased_cross_entropy(logits, column, self.previous, self.options.old_label)
        return loss, len(logits)

    def distillation(self, batch: Batch, student: TrainingPass) -> dict[str, tuple[Tensor, int]]:
        """Return inclusive and attentive distillation at the teacher's regions."""
        levels, boxes = self.teacher_regions(batch)
        losses = self.region_distillation(batch, student, levels, boxes)
        with torch.no_grad():
            wanted = self.teacher.path.pooler(levels, boxes)  # type: ignore[union-attr]  # from task 2 on
        pooled = self.path.pooler(student.levels, boxes)
        s = self.options
        weight = s.attentive_weight
        if weight is None:
            weight = 0.5 if len(self.text) - self.previous >= 10 else 1.0
        attentive = weight * attentive_distillation(pooled, wanted, s.attentive_gamma)
        losses["attentive"] = attentive, len(pooled)
        return losses

    def rehearsal(self, task: RehearsalTask) -> Rehearsal:
        """Return batches that show the boxes of earlier tasks; keep boxes of this one."""
        plain, source = task.batches, pixel_source(task)
        names, seen = current_classes(task.task), seen_classes(task.task)

        def remember() -> Stored:
            tensors, notes = choose_boxes(self, plain, source, names, len(seen))
            return tensors, {"memory": notes}

        previous = earlier_weights(task)
        if not previous:
            return Rehearsal(plain, remember)
        keep = quota(self.options.memory, len(previous_classes(task.task)))
        crops = trimmed(read_memory(previous), keep)
        logger.info("memory: %d boxes of %d classes", len(crops), len({c.name for c in crops}))
        fill = (source.mean.flatten() * 255).cpu()

        def paste(pixels: Tensor, image: LabelledImage, draws: torch.Generator) -> Pasted:
            return abr_paste(pixels, image, crops, fill, draws)

        return Rehearsal(PastedBatches(plain, source, paste, seen, fixed=False), remember)


def abr_paste(
    pixels: Tensor, image: LabelledImage, crops: list[Crop], fill: Tensor, draws: torch.Generator
) -> Pasted:
    """Return an image as ABR shows it: half the time as it is, else with mixup or as a mosaic.

    Args:
        pixels: (3, H, W) uint8.
        image: its labels.
        crops: the memory.
        fill: (3,) colour of a mosaic's rest.
        draws: the generator.
    """
    draw = uniform(0, 1, draws)
    if draw < 0.5 or not crops:
        return Pasted(pixels, torch.zeros(0, 4), [])
    side = (pixels.shape[1] + pixels.shape[2]) / 2
    if draw < 0.75:
        chosen = [sized(c, side, draws) for c in drawn(crops, ABR_RULE.candidates, draws)]
        known = torch.cat([image.boxes, image.ignore])
        return mixup(pixels, known, chosen, ABR_RULE, draws)
    chosen = [sized(crop, side, draws) for crop in drawn(crops, 4, draws)]
    return mosaic(round(side), chosen, fill, draws)


@torch.no_grad()
def choose_boxes(
    model: ReplayFViT,
    batches: FeatureBatches,
    source: OnlineFeatures,
    names: list[str],
    seen: int,
    step: int = 16,
) -> tuple[dict[str, Tensor], str]:
    """Choose the task's boxes and return what stores them (see ``memory.packed``).

    Args:
        model: the trained model.
        batches: the task's images with their features.
        source: the task's images as pixels.
        names: the current classes.
        seen: number of classes seen so far, this task's included.
        step: images per pass.
    """
    vectors: list[Tensor] = []
    device = model.device
    for start in range(0, len(batches.images), step):
        members = list(range(start, min(start + step, len(batches.images))))
        batch = batches.plain(members).to(device)
        # by the image's own boxes, so that rows and boxes agree (targets drop the tiniest)
        views = [batches.letterboxed(batches.images[i]) for i in members]
        boxes = [
            view.boxes(batches.images[i].boxes).to(device)
            for i, view in zip(members, views, strict=True)
        ]
        levels = model.path.levels(batch.taps)
        regions = model.path.vectors(model.path.regions(levels, boxes))
        vectors.append(functional.normalize(model.classifier.project(regions).float(), dim=1).cpu())
    rows = torch.cat(vectors)
    labels = torch.cat([image.labels for image in batches.images])
    owner = [(image, k) for image in batches.images for k in range(len(image.labels))]
    shown = torch.cat([image.boxes[:, 2:] - image.boxes[:, :2] for image in batches.images])
    large = (shown > model.options.memory_min_side).any(1) & (shown >= 2).all(1)
    keep = quota(model.options.memory, seen)
    crops = []
    for column, name in enumerate(names):
        members = torch.where((labels == column) & large)[0]
        if not len(members):
            continue
        for index in members[nearest_to_mean(rows[members], keep)].tolist():
            image, k = owner[index]
            crops.append(cut(source.pixels(image.image_id), image.boxes[k], name, image.image_id))
    return packed(crops)
