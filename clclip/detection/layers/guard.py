"""The relegation guard: confident detections of the previous model are not trained as background.

Labels of a task name its own classes only, so old objects on new images count as background, and
class-agnostic parts that all classes share - proposals, regions - unlearn them: the background
shift (Cermelli et al., 2020). The guard (ours, beyond the published methods) leaves such places out
of the loss, or adds them to the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms


@torch.no_grad()
def claims(
    found: dict[str, Tensor], target: dict[str, Tensor], threshold: float, overlap: float
) -> tuple[Tensor, Tensor]:
    """Return a model's confident detections that no label explains.

    Args:
        found: "boxes" (N, 4), "scores" (N,), "labels" (N,) of one image.
        target: "boxes" (G, 4) labelled objects, "ignore" (I, 4).
        threshold: smallest score.
        overlap: a detection with more IoU with a labelled object is that object; of two detections
            with more, whatever their classes, the one of higher score is kept.

    Returns:
        boxes (M, 4) and labels (M,), by falling score.
    """
    sure = found["scores"] >= threshold
    boxes, scores, labels = (found[name][sure] for name in ("boxes", "scores", "labels"))
    for known in (target["boxes"], target["ignore"]):
        if len(known) and len(boxes):
            free = box_iou(boxes, known).amax(1) <= overlap
            boxes, scores, labels = boxes[free], scores[free], labels[free]
    keep = nms(boxes, scores, overlap)
    return boxes[keep], labels[keep]


def taught(target: dict[str, Tensor], boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the target with more labelled objects."""
    return {
        **target,
        "boxes": torch.cat([target["boxes"], boxes]),
        "labels": torch.cat([target["labels"], labels]),
    }


def ignored(target: dict[str, Tensor], boxes: Tensor) -> dict[str, Tensor]:
    """Return the target with more places that are neither object nor background."""
    return {**target, "ignore": torch.cat([target["ignore"], boxes])}


def guarded(
    targets: Sequence[dict[str, Tensor]],
    found: Sequence[dict[str, Tensor]],
    kind: str,
    threshold: float,
    overlap: float,
    label: int | None = None,
) -> list[dict[str, Tensor]]:
    """Return targets with the previous model's unexplained detections ignored or added.

    Args:
        targets: per image "boxes", "labels", "ignore".
        found: the previous model's detections per image.
        kind: "ignore" or "pseudo" (the detections become labels).
        threshold: smallest score of a detection.
        overlap: see ``claims``.
        label: label of the added objects; None: the detected class.
    """
    result = []
    for target, detections in zip(targets, found, strict=True):
        boxes, labels = claims(detections, target, threshold, overlap)
        if kind == "ignore":
            result.append(ignored(target, boxes))
        else:
            labels = labels if label is None else torch.full_like(labels, label)
            result.append(taught(target, boxes, labels))
    return result
