"""From candidates to the best detections of each image, in fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clclip.detection.methods.detector import Detector
from clclip.evaluation.calibrated.part import Calibrated
from clclip.evaluation.calibrated.score_map import EDGE
from clclip.model.onnx.candidates import candidates
from clclip.model.onnx.regions import Candidates, Canvases, sides
from clclip.model.onnx.suppression import ABSENT, survivors


class Best(NamedTuple):
    """The best D detections of B images, by falling score.

    Attributes:
        boxes: (B, D, 4) xyxy on the canvas.
        scores: (B, D), or ``ABSENT``: there are fewer.
        labels: (B, D).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def best_detections(
    detector: Detector,
    canvases: Canvases,
    labels: Sequence[int],
    limit: int,
    maps: Tensor | None = None,
) -> Best:
    """Return what a detector finds, every pair of a region and a class scored.

    Args:
        detector: the detector.
        canvases: the images.
        labels: label of each column of the seen classes; -1: the class is not reported.
        limit: detections of an image.
        maps: of calibrated classes (see ``score_maps``).
    """
    parts = [_surviving(detector, block, labels) for block in candidates(detector, canvases)]
    boxes, scores = (torch.cat([part[i] for part in parts], dim=1) for i in (0, 1))
    scores, place = scores.topk(min(limit, scores.shape[1]), dim=1)
    boxes = boxes.gather(1, place[..., None].expand(-1, -1, 4))
    best = Best(boxes, scores, torch.cat([part[2] for part in parts])[place])
    return best if maps is None else _calibrated(best, maps)


def _surviving(
    detector: Detector, block: Candidates, labels: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes (B, M, 4), scores (B, M) and labels (M,) after suppression, class by class."""
    place = [k for k, column in enumerate(block.columns) if labels[column] >= 0]
    label = torch.tensor([labels[block.columns[k]] for k in place], dtype=torch.long)
    boxes, scores = block.boxes[:, place], block.scores[:, place]
    s = detector.options
    good = (scores > s.score_threshold) & (sides(boxes) >= 1e-2).all(-1)
    scores = scores.masked_fill(~good, ABSENT)
    alive = survivors(boxes.flatten(0, 1), scores.flatten(0, 1), s.nms).view(scores.shape)
    label = label[:, None].expand(-1, scores.shape[2]).flatten()
    return boxes.flatten(1, 2), scores.masked_fill(~alive, ABSENT).flatten(1), label


def score_maps(calibrated: Calibrated, classes: Sequence[str]) -> Tensor | None:
    """Return per class (K, 3) whether it is calibrated, its slope, and its intercept with offset.

    None: no class is.
    """
    rows = []
    for name in classes:
        line = calibrated.maps.get(name)
        offset = 0.0 if line is None else line.intercept + line.offsets.get(name, 0.0)
        rows.append((0.0, 1.0, 0.0) if line is None else (1.0, line.slope, offset))
    return torch.tensor(rows, dtype=torch.float64) if calibrated.maps else None


def _calibrated(best: Best, maps: Tensor) -> Best:
    """Return detections with mapped scores, sorted anew."""
    known, slope, offset = maps[best.labels].unbind(-1)
    inside = best.scores.double().clamp(EDGE, 1 - EDGE)
    mapped = (slope * (inside.log() - torch.log1p(-inside)) + offset).sigmoid().float()
    mapped = torch.where((known > 0) & (best.scores > ABSENT), mapped, best.scores)
    scores, place = mapped.sort(dim=1, descending=True, stable=True)
    boxes = best.boxes.gather(1, place[..., None].expand(-1, -1, 4))
    return Best(boxes, scores, best.labels.gather(1, place))
