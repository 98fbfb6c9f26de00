"""The relegation guard: confident detections of the previous model are not trained as background.

A task's labels name its own classes only, so old objects in new images count as background, and
the class-agnostic parts (proposals, regions) unlearn them: the background shift (Cermelli et al.,
2020). The guard (ours, beyond the published methods) ignores such regions in the loss, or adds them
to the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms


@torch.no_grad()
def unexplained_detections(
    detections: dict[str, Tensor], target: dict[str, Tensor], threshold: float, overlap: float
) -> tuple[Tensor, Tensor]:
    """Return a model's confident detections that no label explains.

    Args:
        detections: "boxes" (N, 4), "scores" (N,), "labels" (N,) of one image.
        target: "boxes" (G, 4) labelled objects, "ignore" (I, 4).
        threshold: smallest score.
        overlap: a detection with more IoU with a labelled object is that object; of two detections
            with more, whatever their classes, the one of higher score stays.

    Returns:
        boxes (M, 4) and labels (M,), by falling score.
    """
    sure = detections["scores"] >= threshold
    boxes, scores, labels = (detections[name][sure] for name in ("boxes", "scores", "labels"))
    for known in (target["boxes"], target["ignore"]):
        if len(known) and len(boxes):
            free = box_iou(boxes, known).amax(1) <= overlap
            boxes, scores, labels = boxes[free], scores[free], labels[free]
    keep = nms(boxes, scores, overlap)
    return boxes[keep], labels[keep]


def with_objects(target: dict[str, Tensor], boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the target with more labelled objects."""
    return {
        **target,
        "boxes": torch.cat([target["boxes"], boxes]),
        "labels": torch.cat([target["labels"], labels]),
    }


def with_ignored(target: dict[str, Tensor], boxes: Tensor) -> dict[str, Tensor]:
    """Return the target with more regions that count neither as object nor as background."""
    return {**target, "ignore": torch.cat([target["ignore"], boxes])}


def apply_guard(
    targets: Sequence[dict[str, Tensor]],
    detections: Sequence[dict[str, Tensor]],
    mode: str,
    threshold: float,
    overlap: float,
    label: int | None = None,
) -> list[dict[str, Tensor]]:
    """Return targets with the previous model's unexplained detections ignored or added.

    Args:
        targets: per image "boxes", "labels", "ignore".
        detections: the previous model's detections per image.
        mode: "ignore" or "pseudo" (the detections become labels).
        threshold: smallest score of a detection.
        overlap: see ``unexplained_detections``.
        label: label of the added objects; None: the detected class.
    """
    result = []
    for target, own in zip(targets, detections, strict=True):
        boxes, labels = unexplained_detections(own, target, threshold, overlap)
        if mode == "ignore":
            result.append(with_ignored(target, boxes))
        else:
            labels = labels if label is None else torch.full_like(labels, label)
            result.append(with_objects(target, boxes, labels))
    return result
