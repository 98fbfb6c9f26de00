"""How an image lies on its square canvas: letterboxed, mirrored, or jittered in scale (LSJ)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image

JITTER = (0.1, 2.0)  # F-ViT's large-scale jitter, section 1.5 of its description


@dataclass(frozen=True)
class View:
    """Canvas = (image * scale) cropped at (left, top), mirrored if ``flip``; its shown size."""

    scale: float
    left: int
    top: int
    height: int
    width: int
    flip: bool = False
    cropped: bool = False  # part of the image may lie outside the canvas

    def boxes(self, boxes: Tensor) -> Tensor:
        """Return boxes (N, 4) xyxy of the image as they lie on the canvas; some may be empty."""
        offset = boxes.new_tensor([self.left, self.top] * 2)
        moved = boxes * self.scale - offset
        if self.cropped:
            moved = clip_boxes_to_image(moved, (self.height, self.width))
        if self.flip:
            edges = [self.width - moved[:, 2], moved[:, 1], self.width - moved[:, 0], moved[:, 3]]
            moved = torch.stack(edges, dim=1)
        return moved


def image_boxes(boxes: Tensor, scale: float, size: tuple[int, int]) -> Tensor:
    """Return boxes (N, 4) xyxy of a letterboxed canvas in the image's own pixels, cut to the image.

    The canvas shows a whole number of rows and columns, at least one: divided by the scale they may
    reach beyond the image, far beyond where it is very thin.

    Args:
        boxes: on the canvas.
        scale: canvas pixels per image pixel.
        size: (width, height) of the image.
    """
    width, height = size
    return clip_boxes_to_image(boxes / scale, (height, width))


def letterboxed(width: int, height: int, size: int, flip: bool = False) -> View:
    """Return the view that shows the whole image at the top left of the canvas."""
    scale = size / max(width, height)
    rows, columns = round(height * scale), round(width * scale)
    return View(scale, 0, 0, max(1, rows), max(1, columns), flip)


def jittered(width: int, height: int, size: int, flip: bool, draws: torch.Generator) -> View:
    """Return a random view: 0.1 to 2 times the letterbox, then cropped to the canvas."""
    low, high = JITTER
    factor = low + (high - low) * float(torch.rand((), generator=draws))
    scale = factor * size / max(width, height)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    left, top = (
        int(torch.randint(max(0, side - size) + 1, (), generator=draws)) for side in (columns, rows)
    )
    return View(scale, left, top, min(rows, size), min(columns, size), flip, True)


def render(image: Tensor, view: View, size: int, mean: Tensor, std: Tensor) -> Tensor:
    """Return the canvas of an image.

    Args:
        image: uint8 (3, H, W).
        view: how it lies on the canvas.
        size: side of the canvas in pixels.
        mean: (3, 1, 1) the tower's pixel mean in 0..1.
        std: (3, 1, 1) the tower's pixel deviation.

    Returns:
        float32 (3, size, size), normalised; padding is zero.
    """
    height, width = image.shape[1:]
    rows = max(1, round(height * view.scale))
    columns = max(1, round(width * view.scale))
    content = image.float()[None] / 255
    if (rows, columns) != (height, width):
        content = functional.interpolate(
            content, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
        )
    content = content[0, :, view.top : view.top + view.height, view.left : view.left + view.width]
    if view.flip:
        content = content.flip(-1)
    canvas = torch.zeros(3, size, size)
    canvas[:, : content.shape[1], : content.shape[2]] = (content - mean) / std
    return canvas
