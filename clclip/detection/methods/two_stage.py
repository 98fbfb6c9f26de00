"""The two-stage detector of F-ViT on a frozen CLIP tower, which the methods ``fvit*`` share.

Pyramid, proposals and region layers are the shared path; regions are classified against the texts
of the seen classes. Every parameter is trained in every task.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.guard import apply_guard
from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.region_maps import pool_maps
from clclip.detection.layers.regions import (
    SampledRegions,
    box_loss,
    refine,
    sample_regions,
    select_detections,
)
from clclip.detection.layers.text_score import TextClassifier
from clclip.detection.methods.detector import Detector, DetectorInputs, Prediction
from clclip.detection.options.fvit import TwoStageOptions
from clclip.training.shares import Losses


@dataclass(frozen=True)
class TrainingPass:
    """Intermediate results of one training pass, for distillation and other extra losses."""

    levels: OrderedDict[str, Tensor]
    targets: list[dict[str, Tensor]]  # labels: columns of the seen classes
    sampled: SampledRegions  # labels: columns of the seen classes, or BACKGROUND
    logits: Tensor  # (R, K + 1), background last


class TwoStageDetector(Detector):
    """One path and one text classifier for all classes, fine-tuned task after task.

    Args:
        inputs: feature sizes, class groups and text embeddings.
        options: the method's options.
    """

    options: TwoStageOptions

    asks_teacher = False
    """Whether the method needs the model from before the task."""

    def __init__(self, inputs: DetectorInputs, options: TwoStageOptions) -> None:
        super().__init__(inputs, options)
        self.path = SharedPath(inputs.width, inputs.stride, options)
        width = inputs.text.shape[1]
        self.classifier = TextClassifier(options.fc_width, width, options.temperature)
        object.__setattr__(self, "teacher", None)

    teacher: TwoStageDetector | None  # from before the task; no submodule, so never stored

    def begin_task(self) -> None:
        """Train every parameter; keep a frozen copy from before the task where one is asked."""
        if self.previous and (self.asks_teacher or self.options.relegation_guard != "off"):
            teacher = copy.deepcopy(self).eval().requires_grad_(False)
            teacher.text, teacher.groups = self.text[: self.previous], self.groups[:-1]
            object.__setattr__(self, "teacher", teacher)

    def shared_paths(self) -> list[SharedPath]:
        """Return the one path."""
        return [self.path]

    def probes(self, vectors: Tensor) -> dict[str, Tensor]:
        """Return the embeddings that are compared with the texts."""
        return {"classifier": self.classifier.project(vectors)}

    # ---- training; methods that protect old classes override parts below --------------------

    def losses(self, batch: Batch) -> Losses:
        """Return the named losses of a batch, with what each is a mean over."""
        levels = self.path.levels(batch.taps)
        targets = self.seen_targets(batch)
        proposals, losses = self.path.propose(levels, batch.canvas, targets, batch.generators)
        s = self.options
        sampled = sample_regions(
            proposals, self.region_targets(targets), batch.generators, s.roi_batch, s.roi_positive
        )
        vectors = self.path.vectors(self.path.regions(levels, sampled.boxes))
        losses.add("box", box_loss(self.path.box(vectors), sampled), len(vectors))
        logits = self.classifier(vectors, self.text)
        losses.add("class", *self.class_loss(logits, sampled.labels))
        if self.teacher is not None:
            student = TrainingPass(levels, targets, sampled, logits)
            for name, (value, count) in self.distillation(batch, student).items():
                losses.add(name, value, count)
        return losses

    def seen_targets(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the targets, with the previous model's detections if the guard is on."""
        targets = self.labelled(batch)
        s = self.options
        if self.teacher is None or s.relegation_guard == "off":
            return targets
        detections = self.teacher.detect(batch)
        return apply_guard(
            targets, detections, s.relegation_guard, s.guard_threshold, s.guard_overlap
        )

    def labelled(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the targets with labels as columns of the seen classes."""
        return [{**t, "labels": t["labels"] + self.previous} for t in batch.targets]

    def region_targets(self, targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return the targets by which regions are sampled, given those of the proposals."""
        return targets

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the mean loss of logits (R, K + 1) against labels ``column`` (R,), and its count.

        All regions count here; a method may leave some out.
        """
        column = torch.where(column >= 0, column, logits.shape[1] - 1)
        return functional.cross_entropy(logits, column), len(logits)

    def distillation(self, batch: Batch, student: TrainingPass) -> dict[str, tuple[Tensor, int]]:
        """Return the losses against the teacher, name -> (mean, count); fine-tuning has none."""
        return {}

    def outputs(self, levels: Mapping[str, Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (R, K + 1) and deltas (R, 4) of the boxes of all images, in order."""
        vectors = self.path.vectors(self.path.regions(levels, boxes))
        return self.classifier(vectors, self.text), self.path.box(vectors).float()

    # ---- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, batch: Batch) -> Prediction:
        """Return detections and the proposals they come from."""
        levels = self.path.levels(batch.taps)
        proposals, _ = self.path.propose(levels, batch.canvas)
        vectors = self.path.vectors(self.path.regions(levels, proposals))
        scores = self.classifier(vectors, self.text).softmax(-1)[:, :-1]
        if self.options.fusion:
            scores = self._fuse(scores, batch.dense, proposals)
        counts = [len(boxes) for boxes in proposals]
        results = []
        for boxes, score, delta, extent in zip(
            proposals,
            scores.split(counts),
            self.path.box(vectors).split(counts),
            batch.canvas.image_sizes,
            strict=True,
        ):
            boxes = refine(boxes, delta, extent)
            region, column = torch.where(score > self.options.score_threshold)
            results.append(
                select_detections(
                    boxes[region],
                    score[region, column],
                    column,
                    threshold=self.options.score_threshold,
                    nms=self.options.nms,
                    limit=self.options.detections,
                )
            )
        return Prediction(results, [proposals])

    def _fuse(self, scores: Tensor, dense: Tensor, boxes: list[Tensor]) -> Tensor:
        """Return p_det^(1-a) * p_clip^a as F-ViT does at test time.

        ``fusion_temperature`` scales the cosines whose softmax is p_clip (F-ViT: 75). It is ours: a
        tower whose classes lie far apart says 0 or 1 at 75, and corrects nothing that it is unsure
        of.
        """
        pooled = functional.normalize(pool_maps(dense, boxes, self.stride).mean((2, 3)), dim=-1)
        clip = (self.options.fusion_temperature * pooled @ self.text.T).softmax(-1)
        a = self.options.fusion
        return scores.pow(1 - a) * clip.pow(a)
