"""Pasting remembered objects into images: where they may lie, mixup and mosaic (ABR, IOR).

Everything happens in the image's own pixels, and every draw comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clclip.detection.methods.rehearsal.memory import Crop

VISIBLE = 0.5  # a paste of which less would be seen is dropped (ours: guards against slivers)


@dataclass(frozen=True)
class PasteRule:
    """How objects are blended in: candidates per image, Beta(a, b), tries, overlap limits."""

    candidates: int
    beta: tuple[int, int]
    tries: int
    other: float  # largest share of another box that a paste may cover
    own: float  # largest share of the paste that may lie on another box


ABR_RULE = PasteRule(candidates=2, beta=(2, 5), tries=10, other=0.3, own=0.3)
IOR_RULE = PasteRule(candidates=6, beta=(2, 2), tries=20, other=0.3, own=0.1)


@dataclass(frozen=True)
class Pasted:
    """An image with old objects."""

    pixels: Tensor  # (3, H, W) uint8
    boxes: Tensor  # (M, 4) xyxy of the pasted objects
    names: list[str]  # their classes
    replaced: bool = False  # nothing of the original image is left (mosaic)


def uniform(low: float, high: float, draws: torch.Generator) -> float:
    """Return one draw from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=draws))


def beta_draw(a: int, b: int, draws: torch.Generator) -> float:
    """Return one draw from Beta(a, b), whole a and b: the a-th least of a + b - 1 uniforms."""
    return float(torch.rand(a + b - 1, generator=draws).sort().values[a - 1])


def conflicts(box: Tensor, others: Tensor, rule: PasteRule) -> bool:
    """Tell whether a box (4,) covers too much of another (N, 4), or too much of it lies on one."""
    if not len(others):
        return False
    corner = torch.maximum(box[:2], others[:, :2])
    shared = (torch.minimum(box[2:], others[:, 2:]) - corner).clamp(min=0).prod(1)
    other = (others[:, 2:] - others[:, :2]).prod(1).clamp(min=1e-6)
    own = (box[2:] - box[:2]).prod().clamp(min=1e-6)
    return bool(((shared / other > rule.other) | (shared / own > rule.own)).any())


def place(
    size: tuple[int, int],
    extent: tuple[int, int],
    others: Tensor,
    rule: PasteRule,
    draws: torch.Generator,
) -> tuple[int, int] | None:
    """Return the top left corner (x, y) of a paste, or None if there is no free place.

    First the top left corner is drawn in the first 60 % of either side, then the bottom right one
    in the last 60 %, ``rule.tries`` times each. A place is free by the visible part of the paste.

    Args:
        size: (height, width) of the paste.
        extent: (height, width) of the image.
        others: (N, 4) boxes that are there.
        rule: the limits.
        draws: the generator.
    """
    (h, w), (height, width) = size, extent
    for number in range(2 * rule.tries):
        if number < rule.tries:
            x, y = uniform(0, 0.6 * width, draws), uniform(0, 0.6 * height, draws)
        else:
            x = uniform(0.4 * width, width, draws) - w
            y = uniform(0.4 * height, height, draws) - h
        left, top = int(x // 1), int(y // 1)
        box = _visible(left, top, size, extent)
        seen = (box[2:] - box[:2]).clamp(min=0).prod()
        if seen >= VISIBLE * h * w and not conflicts(box, others, rule):
            return left, top
    return None


def _visible(left: int, top: int, size: tuple[int, int], extent: tuple[int, int]) -> Tensor:
    (h, w), (height, width) = size, extent
    return torch.tensor(
        [max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)],
        dtype=torch.float32,
    )


def crowded(boxes: Tensor, extent: tuple[int, int]) -> bool:
    """Tell whether a box leaves less than a quarter of the image free both ways."""
    height, width = extent
    sides = boxes[:, 2:] - boxes[:, :2]
    return bool(((sides[:, 0] > 0.75 * width) & (sides[:, 1] > 0.75 * height)).any())


def mixup(
    pixels: Tensor, boxes: Tensor, crops: Sequence[Crop], rule: PasteRule, draws: torch.Generator
) -> Pasted:
    """Blend crops into an image: lambda * background + (1 - lambda) * crop, one lambda an image.

    Args:
        pixels: (3, H, W) uint8.
        boxes: (N, 4) xyxy of the image's objects, which pastes must respect.
        crops: candidates, already of the size in which they are pasted.
        rule: limits and Beta.
        draws: the generator.
    """
    extent = (pixels.shape[1], pixels.shape[2])
    weight = beta_draw(*rule.beta, draws)
    taken, names, image = boxes, [], pixels.float()
    if crowded(boxes, extent):
        crops = []
    for crop in crops:
        size = (crop.pixels.shape[1], crop.pixels.shape[2])
        corner = place(size, extent, taken, rule, draws)
        if corner is None:
            continue
        box = _visible(*corner, size, extent)
        _blend(image, crop.pixels, box, corner, weight)
        taken = torch.cat([taken, box[None]])
        names.append(crop.name)
    return Pasted(image.round().to(torch.uint8), taken[len(boxes) :], names)


def _blend(
    image: Tensor, crop: Tensor, box: Tensor, corner: tuple[int, int], weight: float
) -> None:
    """Blend the visible part ``box`` of a crop, whose corner is (x, y), into a float image."""
    x0, y0, x1, y1 = (int(v) for v in box)
    part = crop[:, y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]].float()
    image[:, y0:y1, x0:x1] = weight * image[:, y0:y1, x0:x1] + (1 - weight) * part


def mosaic(side: int, crops: Sequence[Crop], fill: Tensor, draws: torch.Generator) -> Pasted:
    """Lay four crops around one point of a plain square: no current object is left (ABR).

    Args:
        side: side of the square in pixels.
        crops: four, of the size in which they are pasted; what leaves the square is cut.
        fill: (3,) colour of the rest, 0..255.
        draws: the generator.
    """
    image = fill.view(3, 1, 1).expand(3, side, side).clone().float()
    x, y = (int(uniform(0.4, 0.6, draws) * side) for _ in range(2))
    boxes, names = [], []
    # top right, bottom left, bottom right, top left of the point
    for crop, (right, below) in zip(crops, ((1, 0), (0, 1), (1, 1), (0, 0)), strict=True):
        h, w = crop.pixels.shape[1:]
        corner = (x if right else x - w, y if below else y - h)
        box = _visible(*corner, (h, w), (side, side))
        if bool((box[2:] - box[:2] > 2).all()):
            _blend(image, crop.pixels, box, corner, 0.0)
            boxes.append(box)
            names.append(crop.name)
    pasted_boxes = torch.stack(boxes) if boxes else torch.zeros(0, 4)
    return Pasted(image.round().to(torch.uint8), pasted_boxes, names, True)


def resized(crop: Crop, factor: float) -> Crop:
    """Return the crop enlarged by ``factor``, at least one pixel a side."""
    height, width = crop.pixels.shape[1:]
    size = (max(1, round(factor * height)), max(1, round(factor * width)))
    if size == (height, width):
        return crop
    pixels = functional.interpolate(
        crop.pixels[None].float(), size, mode="bilinear", align_corners=False, antialias=True
    )
    return Crop(pixels[0].clamp(0, 255).round().to(torch.uint8), crop.name, crop.image)


def sized(crop: Crop, mean_side: float, draws: torch.Generator) -> Crop:
    """Keep a crop of a usual size; bring others to 0.4 to 0.6 of the image's mean side (ABR)."""
    own = (crop.pixels.shape[1] + crop.pixels.shape[2]) / 2
    if 0.2 * mean_side <= own <= 0.7 * mean_side:
        return crop
    return resized(crop, uniform(0.4, 0.6, draws) * mean_side / own)


def drawn(crops: Sequence[Crop], count: int, draws: torch.Generator) -> list[Crop]:
    """Return ``count`` crops at random, none twice before all were taken."""
    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(len(crops), generator=draws).tolist()
    return [crops[i] for i in order[:count]]
