"""F-ViT: the baseline detector on a frozen CLIP tower, fine-tuned task after task."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.guard import guarded
from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.regions import (
    SampledRegions,
    box_loss,
    refine,
    sample_regions,
    select_detections,
)
from clclip.detection.layers.text_score import TextClassifier
from clclip.detection.methods.clclip.gate import pool_maps
from clclip.detection.options import DetectionSwitches
from clclip.training.shares import Losses


@dataclass(frozen=True)
class Pass:
    """What one training pass computed, for losses beside the detector's own."""

    levels: OrderedDict[str, Tensor]
    targets: list[dict[str, Tensor]]  # labels: columns of the seen classes
    sampled: SampledRegions  # labels: columns of the seen classes, or BACKGROUND
    logits: Tensor  # (R, K + 1), background last


class FViT(nn.Module):
    """F-ViT with either column rule.

    Args:
        width: channels of the taps.
        stride: pixels per token.
        switches: the switches.
        groups: class groups of tasks 1..t; their text rows in the same order.
        text: (K, d) unit text embeddings of the seen classes.
    """

    def __init__(
        self,
        width: int,
        stride: float,
        switches: DetectionSwitches,
        groups: list[list[str]],
        text: Tensor,
    ) -> None:
        super().__init__()
        self.switches, self.stride = switches, stride
        self.previous = sum(map(len, groups[:-1]))
        self.register_buffer("text", text, persistent=False)
        self.path = SharedPath(width, stride, switches)
        self.classifier = TextClassifier(switches.fc_width, text.shape[1], switches.temperature)
        object.__setattr__(self, "teacher", None)

    teacher: FViT | None  # the model from before the task; not a submodule, so never stored
    asks_teacher = False  # whether the method needs one

    def begin_task(self) -> None:
        """Train every parameter; keep a frozen copy from before the task where one is asked."""
        if self.previous and (self.asks_teacher or self.switches.relegation_guard != "off"):
            teacher = copy.deepcopy(self).eval().requires_grad_(False)
            teacher.text = self.text[: self.previous]
            object.__setattr__(self, "teacher", teacher)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the current task trains."""
        return dict(self.named_parameters())

    # ---- training; methods that protect old classes override parts below --------------------

    def losses(self, batch: Batch) -> Losses:
        """Return the named losses of a batch, with what each is a mean over."""
        levels = self.path.levels(batch.taps)
        targets = self.seen_targets(batch)
        proposals, losses = self.path.propose(levels, batch.canvas, targets, batch.generators)
        s = self.switches
        sampled = sample_regions(
            proposals, self.region_targets(targets), batch.generators, s.roi_batch, s.roi_positive
        )
        vectors = self.path.vectors(self.path.regions(levels, sampled.boxes))
        losses.add("box", box_loss(self.path.box(vectors), sampled), len(vectors))
        logits = self.classifier(vectors, self.text)
        losses.add("class", *self.class_loss(logits, sampled.labels))
        if self.teacher is not None:
            made = Pass(levels, targets, sampled, logits)
            for name, (value, count) in self.distillation(batch, made).items():
                losses.add(name, value, count)
        return losses

    def seen_targets(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the labelled targets, aware of what the previous model claims if asked."""
        targets = self.labelled(batch)
        s = self.switches
        if self.teacher is None or s.relegation_guard == "off":
            return targets
        found = self.teacher.detect(batch)
        return guarded(targets, found, s.relegation_guard, s.guard_threshold, s.guard_overlap)

    def labelled(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the targets with labels as columns of the seen classes."""
        return [{**t, "labels": t["labels"] + self.previous} for t in batch.targets]

    def region_targets(self, targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return the targets by which regions are sampled, given those of the proposals."""
        return targets

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the mean loss of logits (R, K + 1) against labels ``column`` (R,), and its count.

        Regions count but where they are left out.
        """
        column = torch.where(column >= 0, column, logits.shape[1] - 1)
        if self.switches.columns == "current":
            known = column >= self.previous  # not objects of previous classes that a guard teaches
            logits, column = logits[known, self.previous :], column[known] - self.previous
        return functional.cross_entropy(logits, column), len(logits)

    def distillation(self, batch: Batch, made: Pass) -> dict[str, tuple[Tensor, int]]:
        """Return what is lost against the teacher: means and counts; fine-tuning has no such."""
        return {}

    def outputs(self, levels: Mapping[str, Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (R, K + 1) and deltas (R, 4) of the boxes of all images, in order."""
        vectors = self.path.vectors(self.path.regions(levels, boxes))
        return self.classifier(vectors, self.text), self.path.box(vectors).float()

    # ---- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return detections per image; boxes on the canvas, labels = columns of seen classes."""
        levels = self.path.levels(batch.taps)
        proposals, _ = self.path.propose(levels, batch.canvas)
        vectors = self.path.vectors(self.path.regions(levels, proposals))
        scores = self.classifier(vectors, self.text).softmax(-1)[:, :-1]
        if self.switches.fusion:
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
            region, column = torch.where(score > self.switches.score_threshold)
            results.append(
                select_detections(
                    boxes[region],
                    score[region, column],
                    column,
                    threshold=self.switches.score_threshold,
                    nms=self.switches.nms,
                    limit=self.switches.detections,
                )
            )
        return results

    def _fuse(self, scores: Tensor, dense: Tensor, boxes: list[Tensor]) -> Tensor:
        """Return p_det^(1-a) * p_clip^a as F-ViT does at test time, p_clip at temperature 75."""
        pooled = functional.normalize(pool_maps(dense, boxes, self.stride).mean((2, 3)), dim=-1)
        clip = (75.0 * pooled @ self.text.T).softmax(-1)
        a = self.switches.fusion
        return scores.pow(1 - a) * clip.pow(a)
