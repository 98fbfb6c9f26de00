"""Inversion: pictures of old objects made from the detector itself (IOR), tower included.

Only pixels are optimised; the gradient passes through the frozen tower to the image and to nothing
else. Objective per batch: 10 L_detector(image, target) + TV + L_stat, where L_stat pulls mean and
variance of the patch tokens at the taps to those of the training images (a ViT has no BatchNorm
statistics to match).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou, clip_boxes_to_image

from clclip.detection.layers.distillation import rpn_outputs
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.layers.regions import CODER
from clclip.detection.methods.two_stage import TwoStageDetector

BINS = 50
Encoder = Callable[[Tensor], Sequence[Tensor]]  # normalised images (B, 3, S, S) -> taps


@dataclass(frozen=True)
class Recipe:
    """Numbers of an inversion; IOR's where not scaled to the world."""

    steps: int
    size: int  # side of the canvas in pixels
    lr: float = 0.05  # in pixel units 0..1: IOR's 0.2 is in normalised units
    batch: int = 40
    detector: float = 10.0
    statistics: float = 0.1
    first_statistics: float = 0.3
    variation: float = 1.0
    jittered: int = 8  # boxes around the target, and as many of background (ours: F-ViT's regions)


# ---- targets ------------------------------------------------------------------------------------


def ratio_histogram(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return left edges (50,) and counts (50,) of the signed aspect ratios of boxes (N, 4).

    The ratio is w/h where w >= h, else -h/w; the lowest and highest 5 % are dropped. A bin whose
    edge lies inside (-1, 1), where no ratio is, counts as 1.
    """
    if not len(boxes):
        return torch.ones(BINS), torch.zeros(BINS)
    sides = (boxes[:, 2:] - boxes[:, :2]).double().clamp(min=1e-3)
    wide = sides[:, 0] / sides[:, 1]
    ratios = torch.where(wide >= 1, wide, -1 / wide).sort().values
    cut = int(0.05 * len(ratios))
    ratios = ratios[cut : len(ratios) - cut]
    low, high = float(ratios[0]), float(ratios[-1])
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(ratios, BINS, low, high)
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)[:-1]
    inside = (edges > -1) & (edges < 1)
    return torch.where(inside, torch.ones_like(edges), edges).float(), counts.float()


def draw_box(edges: Tensor, counts: Tensor, size: int, draws: torch.Generator) -> Tensor:
    """Return a target box (4,) inside a canvas: longest side 0.6 to 0.8 of it, ratio by count."""
    weights = counts if float(counts.sum()) > 0 else torch.ones_like(counts)
    ratio = float(edges[torch.multinomial(weights, 1, generator=draws)])
    first, x, y = torch.rand(3, generator=draws).tolist()
    left_right, up_down = (torch.randint(0, 2, (2,), generator=draws) * 2 - 1).tolist()
    longest = 0.6 + 0.2 * first
    shortest = longest / max(abs(ratio), 1.0)
    w, h = (longest, shortest) if ratio > 0 else (shortest, longest)
    cx = 0.5 + left_right * x * (0.5 - w / 2)
    cy = 0.5 + up_down * y * (0.5 - h / 2)
    return size * torch.tensor([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


# ---- statistics of tokens -----------------------------------------------------------------------


@dataclass(frozen=True)
class TokenStatistics:
    """Count of tokens, and mean and variance per tap and channel, each (taps, C)."""

    count: int
    mean: Tensor
    variance: Tensor


def token_statistics(taps: Sequence[Tensor]) -> TokenStatistics:
    """Return the statistics of the tokens of taps (B, C, h, w)."""
    flat = [tap.transpose(0, 1).flatten(1).float() for tap in taps]  # (C, B h w)
    mean = torch.stack([rows.mean(1) for rows in flat])
    return TokenStatistics(
        flat[0].shape[1], mean, torch.stack([rows.var(1, correction=0) for rows in flat])
    )


def merged_statistics(parts: Sequence[TokenStatistics]) -> TokenStatistics:
    """Return the statistics of all tokens from those of parts of them."""
    count = sum(part.count for part in parts)
    mean = torch.stack([part.count * part.mean.double() for part in parts]).sum(0) / count
    # around the common mean, so that nothing large cancels
    spread = [
        part.count * (part.variance.double() + (part.mean.double() - mean).pow(2)) for part in parts
    ]
    return TokenStatistics(count, mean.float(), (torch.stack(spread).sum(0) / count).float())


def statistics_loss(measured: TokenStatistics, wanted: TokenStatistics, recipe: Recipe) -> Tensor:
    """Return L_stat: the 2-norms of both differences per tap, over sqrt(C); the first counts more.

    The division is ours: channel counts differ from a ResNet's.
    """
    mean = (measured.mean - wanted.mean).norm(dim=1)
    per_tap = (mean + (measured.variance - wanted.variance).norm(dim=1)) / measured.mean.shape[
        1
    ] ** 0.5
    return recipe.statistics * per_tap.sum() + recipe.first_statistics * per_tap[0]


# ---- the objective ------------------------------------------------------------------------------


def total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute differences of images (B, 3, H, W), summed over 4 directions."""
    return (
        (images[..., 1:] - images[..., :-1]).abs().mean()
        + (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
        + (images[..., 1:, 1:] - images[..., :-1, :-1]).abs().mean()
        + (images[..., 1:, :-1] - images[..., :-1, 1:]).abs().mean()
    )


def augmented(images: Tensor, boxes: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, S, S) in 0..1 and boxes (B, 4) after one draw of IOR's augmentation.

    Circular shift by an eighth of the canvas at most and a mirror image, both for the whole batch;
    per image a change of brightness and, half the time, one erased rectangle.
    """
    size = images.shape[-1]
    reach = size // 8
    right, down = torch.randint(-reach, reach + 1, (2,), generator=draws).tolist()
    images = images.roll((down, right), dims=(2, 3))
    boxes = boxes + boxes.new_tensor([right, down] * 2)
    corner = boxes[:, :2].clamp(0, size - 1)  # a thin box pushed over the edge keeps a pixel
    boxes = torch.cat([corner, torch.maximum(boxes[:, 2:].clamp(max=size), corner + 1)], dim=1)
    if float(torch.rand((), generator=draws)) < 0.5:
        images = images.flip(-1)
        boxes = torch.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1)
    light = 0.05 * torch.randn(len(images), 1, 1, 1, generator=draws)
    images = images + light.to(images.device)
    mask = torch.ones(len(images), 1, size, size)
    for n in range(len(images)):
        erase, area, ratio, x, y = torch.rand(5, generator=draws).tolist()
        area, ratio = size * size * (0.02 + 0.18 * area), math.exp(math.log(0.3) + ratio * 2.4)
        h, w = (min(size, max(1, round((area * r) ** 0.5))) for r in (ratio, 1 / ratio))
        top, left = int(y * (size - h + 1)), int(x * (size - w + 1))
        if erase < 0.5:
            mask[n, :, top : top + h, left : left + w] = 0
    return images * mask.to(images.device), boxes


def detector_loss(
    model: TwoStageDetector,
    taps: Sequence[Tensor],
    boxes: Tensor,
    columns: Tensor,
    size: int,
    regions: list[Tensor],
) -> Tensor:
    """Return F-ViT's losses for one object per image; regions are given, not proposed.

    Args:
        model: the detector, frozen.
        taps: the tower's taps of B images, with gradient.
        boxes: (B, 4) target boxes.
        columns: (B,) their columns.
        size: side of the canvas.
        regions: per image (N, 4): IoU >= 0.5 with the target is the object, the rest background.
    """
    canvas = canvas_list(len(boxes), (size, size), torch.full((len(boxes), 2), size))
    path = model.path
    levels = path.levels(taps)
    objectness, deltas = rpn_outputs(path, levels)
    anchors = path.rpn.anchor_generator(canvas, list(levels.values()))
    none = boxes.new_zeros(0, 4)
    targets = [{"boxes": box[None], "ignore": none} for box in boxes]
    labels, matched = path.rpn.assign_targets_to_anchors(anchors, targets)
    label, shift = torch.stack(labels), torch.stack(path.rpn.box_coder.encode(matched, anchors))
    known, rest = label >= 1, label == 0
    bce = functional.binary_cross_entropy_with_logits
    loss = 0.5 * bce(objectness[known], label[known]) + 0.5 * bce(objectness[rest], label[rest])
    loss = loss + functional.smooth_l1_loss(deltas[known], shift[known], beta=1 / 9)

    logits, moved = model.outputs(levels, regions)
    flat = torch.cat(regions)
    counts = torch.tensor([len(region) for region in regions], device=flat.device)
    owner = torch.repeat_interleave(torch.arange(len(boxes), device=flat.device), counts)
    overlap = [box_iou(r, box[None])[:, 0] for r, box in zip(regions, boxes, strict=True)]
    near = torch.cat(overlap) >= 0.5
    column = torch.where(near, columns[owner], logits.shape[1] - 1)
    loss = loss + functional.cross_entropy(logits.float(), column)
    target = CODER.encode_single(boxes[owner[near]], flat[near])
    return loss + functional.smooth_l1_loss(moved[near], target, beta=1 / 9)


def drawn_regions(boxes: Tensor, size: int, count: int, draws: torch.Generator) -> list[Tensor]:
    """Return per target box (B, 4): itself, ``count`` jittered copies, ``count`` random boxes.

    A copy moves and stretches by up to a tenth of a side, which keeps IoU >= 0.5.
    """
    result = []
    for box in boxes.cpu():
        side = (box[2:] - box[:2]).repeat(2)
        copies = box + (torch.rand(count, 4, generator=draws) - 0.5) * 0.2 * side
        corner, extent = torch.rand(2, count, 2, generator=draws) * size
        others = torch.cat([corner, corner + 4 + extent], dim=1)
        others = clip_boxes_to_image(others, (size, size))
        far = (box_iou(others, box[None])[:, 0] < 0.3) & ((others[:, 2:] - others[:, :2]) > 1).all(
            1
        )
        regions = torch.cat([box[None], clip_boxes_to_image(copies, (size, size)), others[far]])
        result.append(regions.to(boxes.device))
    return result


def invert(
    model: TwoStageDetector,
    encode: Encoder,
    mean: Tensor,
    std: Tensor,
    boxes: Tensor,
    columns: Tensor,
    statistics: TokenStatistics,
    recipe: Recipe,
    draws: torch.Generator,
) -> tuple[Tensor, float]:
    """Return images (B, 3, S, S) in 0..1 in which the model sees the targets, and the last loss.

    Args:
        model: the detector; neither its parameters nor their gradients change.
        encode: normalised images -> taps, with gradient to the images.
        mean: (3, 1, 1) the tower's pixel mean.
        std: (3, 1, 1) the tower's pixel deviation.
        boxes: (B, 4) target boxes on the canvas.
        columns: (B,) their columns.
        statistics: of tokens of training images at this canvas.
        recipe: the numbers.
        draws: the generator.
    """
    device = boxes.device
    start = torch.randn(len(boxes), 3, recipe.size, recipe.size, generator=draws).clamp(0, 1)
    x = start.to(device).requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=recipe.lr, betas=(0.0, 0.0))
    mean, std = mean.to(device), std.to(device)
    loss = x.new_zeros(())
    for step in range(recipe.steps):
        optimizer.param_groups[0]["lr"] = (
            0.5 * recipe.lr * (1 + math.cos(math.pi * step / recipe.steps))
        )
        images, moved = augmented(x, boxes, draws)
        taps = encode((images - mean) / std)
        regions = drawn_regions(moved, recipe.size, recipe.jittered, draws)
        loss = (
            recipe.detector * detector_loss(model, taps, moved, columns, recipe.size, regions)
            + recipe.variation * total_variation(images)
            + statistics_loss(token_statistics(taps), statistics, recipe)
        )
        (x.grad,) = torch.autograd.grad(loss, [x])  # the pixels' alone
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return x.detach(), float(loss.detach())
