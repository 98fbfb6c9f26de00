"""F-ViT: the baseline detector on a frozen CLIP tower, fine-tuned task after task."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clclip.detection.batch import Batch
from clclip.detection.gate import pool_maps
from clclip.detection.path import SharedPath, cosine_scale
from clclip.detection.regions import box_loss, refine, sample_regions, select_detections
from clclip.detection.switches import DetectionSwitches


class TextClassifier(nn.Module):
    """Region vectors against class texts, logit = tau * cos(z, t_c), and learned background.

    Args:
        width: width of the region vectors.
        dim: dimension of the text embeddings.
        temperature: initial tau.
    """

    def __init__(self, width: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, dim)
        )
        self.background = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.background, std=dim**-0.5)
        self.log_scale = cosine_scale(temperature)

    def forward(self, vectors: Tensor, text: Tensor) -> Tensor:
        """Return logits (R, K + 1) of vectors (R, width) against text (K, dim); background last."""
        z = functional.normalize(self.project(vectors).float(), dim=-1)
        columns = torch.cat([text, functional.normalize(self.background, dim=0)[None]])
        return self.log_scale.exp().clamp(max=100.0) * z @ columns.T


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

    def begin_task(self) -> None:
        """Fine-tuning protects nothing: every parameter is trained."""

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the current task trains."""
        return dict(self.named_parameters())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named losses of a batch."""
        levels = self.path.levels(batch.taps)
        proposals, losses = self.path.propose(levels, batch.canvas, batch.targets, batch.generators)
        s = self.switches
        sampled = sample_regions(
            proposals, batch.targets, batch.generators, s.roi_batch, s.roi_positive
        )
        vectors = self.path.vectors(self.path.regions(levels, sampled.boxes, batch.canvas))
        losses["box"] = box_loss(self.path.box(vectors), sampled)
        logits = self.classifier(vectors, self.text)
        column = sampled.labels + self.previous
        if s.columns == "current":
            logits, column = logits[:, self.previous :], sampled.labels
        background = logits.shape[1] - 1
        column = torch.where(sampled.labels >= 0, column, background)
        losses["class"] = functional.cross_entropy(logits, column)
        return losses

    @torch.no_grad()
    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return detections per image; boxes on the canvas, labels = columns of seen classes."""
        levels = self.path.levels(batch.taps)
        proposals, _ = self.path.propose(levels, batch.canvas)
        vectors = self.path.vectors(self.path.regions(levels, proposals, batch.canvas))
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
