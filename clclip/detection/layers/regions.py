"""Sampling of regions, box regression and class-wise NMS, on torchvision's own parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou, clip_boxes_to_image
from torchvision.ops import nms as suppressed

from clclip.detection.layers.proposals import SeededSampler

BACKGROUND = -1
CLASS_OFFSET = 2.0**14  # coordinate offset between classes for class-wise NMS; more than any canvas
BATCHED_NMS_LIMIT = 1000  # batched NMS up to so many boxes; above, a CPU is faster class by class
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
MATCHER = Matcher(0.5, 0.5, allow_low_quality_matches=False)


@dataclass(frozen=True)
class SampledRegions:
    """Regions sampled for the RoI losses; R = regions of all images, in image order."""

    boxes: list[Tensor]  # per image (R_i, 4) xyxy
    labels: Tensor  # (R,) index of the current class, or BACKGROUND
    matched: Tensor  # (R, 4) the ground-truth box of a positive region
    image: Tensor  # (R,) index of the image in the batch


@torch.no_grad()
def sample_regions(
    proposals: list[Tensor],
    targets: list[dict[str, Tensor]],
    generators: Sequence[torch.Generator],
    size: int,
    positive: float,
) -> SampledRegions:
    """Sample regions around the ground truth, which joins the proposals.

    Args:
        proposals: (N_i, 4) xyxy per image.
        targets: per image "boxes" (G, 4), "labels" (G,) index of the current class, "ignore" (I,
            4).
        generators: one per image.
        size: regions per image.
        positive: largest share of positives.
    """
    candidates, labels, matched = [], [], []
    for boxes, target in zip(proposals, targets, strict=True):
        boxes = _by_place(torch.cat([boxes, target["boxes"]]))
        index, label = _match(boxes, target)
        candidates.append(boxes)
        labels.append(label)
        empty = len(target["boxes"]) == 0
        matched.append(torch.zeros_like(boxes) if empty else target["boxes"][index.clamp(min=0)])
    sampler = SeededSampler(size, positive)
    sampler.generators = generators
    # the sampler counts labels >= 1 as positive, 0 as negative and the rest as unused
    masks = [p | n for p, n in zip(*sampler([label + 1 for label in labels]), strict=True)]
    picked = [torch.where(mask)[0] for mask in masks]
    device = proposals[0].device
    return SampledRegions(
        boxes=[box[i] for box, i in zip(candidates, picked, strict=True)],
        labels=torch.cat([label[i] for label, i in zip(labels, picked, strict=True)]),
        matched=torch.cat([box[i] for box, i in zip(matched, picked, strict=True)]),
        image=torch.cat(
            [torch.full((len(i),), n, device=device) for n, i in enumerate(picked)]
        ).long(),
    )


def _by_place(boxes: Tensor) -> Tensor:
    """Return the boxes (N, 4) ordered by where they are.

    The sampler draws by position in the list. Proposals come by falling score, and the scores of
    good ones are nearly equal, so that rounding (another batch size, another number of processes)
    would swap them and draw others; their places differ by pixels.
    """
    # rationally unrelated weights: boxes that share an edge, as clipped ones do, still differ
    weights = boxes.new_tensor([1.0, 2.0**0.5, 3.0**0.5, 5.0**0.5])
    return boxes[torch.argsort((boxes * weights).sum(1), stable=True)]


def _match(boxes: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the matched ground-truth index and the label (class, BACKGROUND or -2: unused)."""
    label = torch.full((len(boxes),), BACKGROUND, dtype=torch.int64, device=boxes.device)
    index = label.clone()
    if len(target["boxes"]):
        index = MATCHER(box_iou(target["boxes"], boxes))
        matched = index >= 0
        label[matched] = target["labels"][index[matched]]
    if len(target["ignore"]):
        near = box_iou(boxes, target["ignore"]).amax(1) >= 0.5
        label[near & (label == BACKGROUND)] = -2
    return index, label


def without_classes_from(sampled: SampledRegions, count: int) -> SampledRegions:
    """Return the regions with labels of ``count`` and above (added by the guard) as background."""
    labels = torch.where(sampled.labels < count, sampled.labels, BACKGROUND)
    return replace(sampled, labels=labels)


def box_loss(deltas: Tensor, sampled: SampledRegions) -> Tensor:
    """Return the smooth-L1 loss of the positive regions' deltas (R, 4), per sampled region."""
    positive = sampled.labels >= 0
    boxes = torch.cat(sampled.boxes)
    wanted = CODER.encode_single(sampled.matched[positive], boxes[positive])
    loss = functional.smooth_l1_loss(deltas[positive].float(), wanted, beta=1 / 9, reduction="sum")
    return loss / max(len(boxes), 1)


def refine(boxes: Tensor, deltas: Tensor, extent: tuple[int, int] | Tensor) -> Tensor:
    """Apply deltas (N, 4) to boxes (N, 4) and clip to ``extent``.

    Args:
        boxes: (N, 4) xyxy.
        deltas: (N, 4).
        extent: (height, width) of all, or (N, 2) of each.
    """
    moved = CODER.decode_single(deltas.float(), boxes)
    if isinstance(extent, Tensor):
        return torch.minimum(moved.clamp(min=0), extent.flip(1).repeat(1, 2))
    return clip_boxes_to_image(moved, extent)


def select_detections(
    boxes: Tensor, scores: Tensor, columns: Tensor, *, threshold: float, nms: float, limit: int
) -> dict[str, Tensor]:
    """Class-wise NMS and the cut to the best detections.

    Args:
        boxes: (M, 4) candidate boxes.
        scores: (M,) their scores.
        columns: (M,) their class columns.
        threshold: smallest score.
        nms: IoU threshold of the NMS.
        limit: largest number of detections.

    Returns:
        {"boxes": (n, 4), "scores": (n,), "labels": (n,)} by falling score.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    keep = torch.where((scores > threshold) & (sides >= 1e-2).all(1))[0]
    boxes, scores, columns = boxes[keep], scores[keep], columns[keep]
    keep = class_wise_nms(boxes, scores, columns, nms)[:limit]
    return {"boxes": boxes[keep], "scores": scores[keep], "labels": columns[keep]}


def class_wise_nms(boxes: Tensor, scores: Tensor, columns: Tensor, iou: float) -> Tensor:
    """Return the indices of the boxes (M, 4) that survive, by falling score, class by class.

    torchvision's ``batched_nms`` offsets classes by the largest coordinate of all candidates, in
    float32, whose rounding lets other classes decide pairs near the limit. Here the offset is
    constant and in float64, which holds the sum exactly, or classes are taken one by one: both
    give the same result, and no class depends on the others.
    """
    boxes, scores = boxes.double(), scores.double()
    if len(boxes) <= BATCHED_NMS_LIMIT or boxes.is_cuda:
        return suppressed(boxes + (columns.double() * CLASS_OFFSET)[:, None], scores, iou)
    keep = torch.zeros_like(columns, dtype=torch.bool)
    for column in columns.unique():
        own = torch.where(columns == column)[0]
        keep[own[suppressed(boxes[own], scores[own], iou)]] = True
    indices = torch.where(keep)[0]
    return indices[scores[indices].argsort(descending=True, stable=True)]
