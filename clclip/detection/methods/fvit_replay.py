"""``fvit_replay``: Augmented Box Replay (ABR, Liu et al., ICCV 2023) on F-ViT.

After a task, boxes of its classes nearest to their class's mean are kept as pictures; later images
show them by mixup (1/4 of the time) or mosaic (1/4), and losses are inclusive: L = L_rpn + L_ICL +
L_box + alpha (L_ID,cls + L_ID,box) + beta (L_AFD + gamma L_PAD).

Published settings (Faster R-CNN R50-C4, VOC): 2000 boxes, none smaller than 70 px both ways; alpha
1, 0.5, 0.1 for 1-2, 5, 10 new classes; beta 0.5 for 10+10, else 1; gamma 0.5 to 5; Beta(2, 5), two
candidates, overlap 0.3; 64 of the teacher's 128 best proposals. As released, replayed regions have
no class loss (``old_label: zero``); whether the paper means that is not known to us, and ``ce`` is
the default here. Ours: the selection by F-ViT's region embedding, L_ARD on pyramid features (on the
frozen tower's it would be zero), grey = the tower's mean colour, no repeats of scarce boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clclip.detection.inputs.dataset import FeatureBatches, LabelledImage
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import attentive_distillation, unbiased_cross_entropy
from clclip.detection.layers.guard import taught
from clclip.detection.methods.fvit import Pass
from clclip.detection.methods.fvit_mma import MmaFViT
from clclip.detection.methods.rehearsal.memory import Crop, nearest_to_mean, packed, quota
from clclip.detection.methods.rehearsal.pasting import (
    ABR_RULE,
    Pasted,
    drawn,
    mixup,
    mosaic,
    sized,
    uniform,
)


class ReplayFViT(MmaFViT):
    """F-ViT with inclusive losses, region and attentive distillation; pasted boxes are labels."""

    def labelled(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the labelled objects and the pasted ones."""
        return [
            taught(target, target["old_boxes"], target["old_labels"])
            if "old_boxes" in target
            else target
            for target in super().labelled(batch)
        ]

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the inclusive classification loss and the number of regions."""
        loss = unbiased_cross_entropy(logits, column, self.previous, self.switches.old_label)
        return loss, len(logits)

    def distillation(self, batch: Batch, made: Pass) -> dict[str, tuple[Tensor, int]]:
        """Return inclusive and attentive distillation at the teacher's regions."""
        levels, boxes = self.teacher_regions(batch)
        losses = self.region_distillation(batch, made, levels, boxes)
        with torch.no_grad():
            wanted = self.teacher.path.pooler(levels, boxes)
        found = self.path.pooler(made.levels, boxes)
        s = self.switches
        weight = s.attentive_weight
        if weight is None:
            weight = 0.5 if len(self.text) - self.previous >= 10 else 1.0
        attentive = weight * attentive_distillation(found, wanted, s.attentive_gamma)
        losses["attentive"] = attentive, len(found)
        return losses


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
    kind = uniform(0, 1, draws)
    if kind < 0.5 or not crops:
        return Pasted(pixels, torch.zeros(0, 4), [])
    side = (pixels.shape[1] + pixels.shape[2]) / 2
    if kind < 0.75:
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
    device: torch.device,
    step: int = 16,
) -> tuple[dict[str, Tensor], str]:
    """Choose the task's boxes and return what stores them (see ``memory.packed``).

    Args:
        model: the trained model.
        batches: the task's images with their features.
        source: the task's images as pixels.
        names: the current classes.
        seen: number of classes seen so far, this task's included.
        device: where the model is.
        step: images per pass.
    """
    vectors: list[Tensor] = []
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
    large = (shown > model.switches.memory_min_side).any(1) & (shown >= 2).all(1)
    keep = quota(model.switches.memory, seen)
    crops = []
    for column, name in enumerate(names):
        members = torch.where((labels == column) & large)[0]
        if not len(members):
            continue
        for index in members[nearest_to_mean(rows[members], keep)].tolist():
            image, k = owner[index]
            crops.append(cut(source.pixels(image.image_id), image.boxes[k], name, image.image_id))
    return packed(crops)


def cut(pixels: Tensor, box: Tensor, name: str, image: int | None) -> Crop:
    """Return the object in ``box`` (4,) xyxy of an image (3, H, W), whole pixels."""
    height, width = pixels.shape[1:]
    x0, y0 = (int(v) for v in box[:2].floor().clamp(min=0))
    x1, y1 = min(width, int(box[2].ceil())), min(height, int(box[3].ceil()))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    return Crop(pixels[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].clone(), name, image)
