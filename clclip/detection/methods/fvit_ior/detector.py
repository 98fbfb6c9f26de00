"""``fvit_ior``: Inverted Object Replay (IOR, ICASSP 2025) on F-ViT, adapted from a GFL detector.

Before a task, objects of the previous task's classes are inverted from the previous model
(``inversion.py``) and pasted into the new images, always the same ones into an image; they say
WHERE to distil and are never labels. Losses, with the balance s = mean |IoU - p| over regions of
new classes (detached):

L = L_detector(new classes) + w (8 / images) s sum_images (0.03 L_feat + L_cls + 0.25 L_box)

- anchors near pasted objects are left out (objectness is class-agnostic: as background they would
  erase old objects); regions on them are "background or old" in a grouped softmax;
- L_feat: 2-norm, per level, of pyramid and region features of pasted objects against the teacher;
- L_cls: mean squares of objectness logits at the teacher's 1000 best anchors, and of old-class
  logits at its proposals (128 at most);
- L_box: squared differences of deltas, weighted by the student's confidence.

Published settings (COCO, GFL R50, two tasks that never co-occur): 10 objects a class, 160 px, 2000
steps; 12 epochs, SGD lr 0.01; six candidates, Beta(2, 2), overlap 0.3 and 0.1. No table of results
was readable, and no F-ViT row is published. The defaults here are scaled to the embedded world.
Region features are pooled to 3x3 from the path's 7x7; region deltas are averaged over boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou, nms

from clclip.core.task import current_classes, seen_classes
from clclip.detection.inputs.dataset import LabelledImage
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import rpn_outputs, unbiased_cross_entropy
from clclip.detection.layers.regions import SampledRegions
from clclip.detection.methods.detector import Rehearsal, RehearsalTask, Stored
from clclip.detection.methods.fvit_ior.objects import invert_classes, stored_statistics
from clclip.detection.methods.rehearsal.batches import (
    PastedBatches,
    earlier_weights,
    pixel_source,
)
from clclip.detection.methods.rehearsal.memory import Crop, packed, read_memory
from clclip.detection.methods.rehearsal.pasting import IOR_RULE, Pasted, drawn, mixup, resized
from clclip.detection.methods.two_stage import TrainingPass, TwoStageDetector
from clclip.detection.options.fvit import IorOptions

ANCHORS, REGIONS, IMAGES = 1000, 128, 8


class IorFViT(TwoStageDetector):
    """F-ViT with grouped softmax, ignored pasted anchors and high-value distillation."""

    options: IorOptions
    asks_teacher = True

    def labelled(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return targets in which proposals near pasted objects are neither object nor rest."""
        return [
            {**target, "ignore": torch.cat([target["old_boxes"], target["ignore"]])}
            if "old_boxes" in target
            else target
            for target in super().labelled(batch)
        ]

    def region_targets(self, targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return targets in which pasted objects are background: "rest" of the grouped softmax."""
        pasted = [len(t["old_boxes"]) if "old_boxes" in t else 0 for t in targets]
        return [{**t, "ignore": t["ignore"][n:]} for t, n in zip(targets, pasted, strict=True)]

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the grouped softmax loss: a new class against background and old ones."""
        return unbiased_cross_entropy(logits, column, self.previous), len(logits)

    def distillation(self, batch: Batch, student: TrainingPass) -> dict[str, tuple[Tensor, int]]:
        """Return the balanced high-value distillation.

        Balance and norms are those of the images at hand, so micro-batches are near, not equal.
        """
        with torch.no_grad():
            levels = self.teacher.path.levels(batch.taps)  # type: ignore[union-attr]  # from task 2 on
            proposals, _ = self.teacher.path.propose(levels, batch.canvas)  # type: ignore[union-attr]  # from task 2 on
        boxes = [best[:REGIONS] for best in proposals]
        anchors = self.path.rpn.anchor_generator(batch.canvas, list(levels.values()))[0]
        terms = {
            "distil_feature": 0.03 * self._feature_term(batch, student, levels),
            **self._anchor_terms(student, levels, anchors),
            **self._region_terms(batch, student, levels, boxes),
        }
        weight = self.options.distil_weight
        scale = (
            balance(student.sampled, student.logits, self.previous) * IMAGES / len(batch.targets)
        )
        scale = scale * (1.0 if weight is None else weight)
        return {name: (scale * value, len(batch.targets)) for name, value in terms.items()}

    def _feature_term(
        self, batch: Batch, student: TrainingPass, levels: dict[str, Tensor]
    ) -> Tensor:
        """Return L_feat over the pasted objects of all images."""
        boxes = [t["old_boxes"] for t in batch.targets if "old_boxes" in t]
        if sum(map(len, boxes)) == 0:
            return student.logits.new_zeros(())
        with torch.no_grad():
            pooled = self.teacher.path.pooler(levels, boxes)  # type: ignore[union-attr]  # from task 2 on
            wanted = pooled, self.teacher.path.convs(pooled)  # type: ignore[union-attr]  # from task 2 on
        pooled = self.path.pooler(student.levels, boxes)
        place = self.path.pooler.map_levels(boxes)
        total = student.logits.new_zeros(())
        for features, target in zip((pooled, self.path.convs(pooled)), wanted, strict=True):
            difference = functional.adaptive_avg_pool2d(features.float() - target.float(), 3)
            for level in place.unique():
                total = total + difference[place == level].norm()
        return total

    def _anchor_terms(
        self, student: TrainingPass, levels: dict[str, Tensor], anchors: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms at the teacher's best anchors, summed over images."""
        with torch.no_grad():
            wanted, wanted_deltas = rpn_outputs(self.teacher.path, levels)  # type: ignore[union-attr, arg-type]  # from task 2 on
        objectness, deltas = rpn_outputs(self.path, student.levels)
        score = box = objectness.new_zeros(())
        for n in range(len(objectness)):
            best = wanted[n].topk(min(ANCHORS, wanted.shape[1])).indices
            score = score + (objectness[n, best] - wanted[n, best]).pow(2).mean()
            decoded = self.path.rpn.box_coder.decode(wanted_deltas[n, best], [anchors[best]])
            keep = best[nms(decoded[:, 0], wanted[n, best], 0.005)]
            moved = (deltas[n, keep] - wanted_deltas[n, keep]).pow(2).sum(1)
            box = box + 0.25 * 0.25 * (objectness[n, keep].detach().sigmoid() * moved).sum()
        return {"distil_rpn": score, "distil_rpn_box": box}

    def _region_terms(
        self, batch: Batch, student: TrainingPass, levels: dict[str, Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the terms at the teacher's proposals, summed over images."""
        with torch.no_grad():
            wanted, wanted_deltas = self.teacher.outputs(levels, boxes)  # type: ignore[union-attr]  # from task 2 on
        logits, deltas = self.outputs(student.levels, boxes)
        old = slice(0, self.previous)
        scores = (logits[:, old] - wanted[:, old]).float().pow(2).mean(1)
        sure = logits.detach().float().softmax(1)[:, old].amax(1)
        moved = 0.25 * 0.25 * sure * (deltas - wanted_deltas).pow(2).sum(1)
        counts = [len(own) for own in boxes]
        return {
            name: torch.stack([part.sum() / max(len(part), 1) for part in rows.split(counts)]).sum()
            for name, rows in (("distil_class", scores), ("distil_box", moved))
        }

    def rehearsal(self, task: RehearsalTask) -> Rehearsal:
        """Invert the previous task's classes and return batches that show all inverted objects."""
        plain, source, seen = task.batches, pixel_source(task), seen_classes(task.task)
        previous, inverted = earlier_weights(task), []
        if previous:
            names = task.task["groups"][-2]
            inverted = invert_classes(self.teacher, names, seen, previous, source, plain.stream)  # type: ignore[arg-type]  # from task 2 on

        def remember() -> Stored:
            tensors, notes = packed(inverted)
            size, count = self.options.invert_size, len(current_classes(task.task))
            statistics = stored_statistics(plain.images, count, source, size, plain.stream)
            return {**tensors, **statistics}, {"memory": notes}

        if not previous:
            return Rehearsal(plain, remember)
        crops = read_memory(previous) + inverted

        def paste(pixels: Tensor, image: LabelledImage, draws: torch.Generator) -> Pasted:
            return ior_paste(pixels, image, crops, source.size, draws)

        return Rehearsal(PastedBatches(plain, source, paste, seen, fixed=True), remember)


@torch.no_grad()
def balance(sampled: SampledRegions, logits: Tensor, previous: int) -> Tensor:
    """Return s: mean of |IoU with the object - p of its class| over regions of new classes, or 0.

    Strong while new classes are badly fitted, and fading as they are learned.
    """
    new = sampled.labels >= previous
    if not bool(new.any()):
        return logits.new_zeros(())
    boxes = torch.cat(sampled.boxes)[new]
    overlap = box_iou(boxes, sampled.matched[new]).diagonal()
    p = logits[new].float().softmax(1).gather(1, sampled.labels[new][:, None])[:, 0]
    return (overlap - p).abs().mean()


def ior_paste(
    pixels: Tensor, image: LabelledImage, crops: list[Crop], canvas: int, draws: torch.Generator
) -> Pasted:
    """Return an image with up to six inverted objects, in the size they have on the canvas.

    Args:
        pixels: (3, H, W) uint8.
        image: its labels.
        crops: inverted objects in canvas pixels.
        canvas: side of the training canvas.
        draws: the generator, which must not depend on the epoch: pastes are fixed.
    """
    if not crops:
        return Pasted(pixels, torch.zeros(0, 4), [])
    factor = max(pixels.shape[1:]) / canvas
    chosen = [resized(crop, factor) for crop in drawn(crops, IOR_RULE.candidates, draws)]
    return mixup(pixels, torch.cat([image.boxes, image.ignore]), chosen, IOR_RULE, draws)
