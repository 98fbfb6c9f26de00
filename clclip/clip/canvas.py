"""From an image to the square canvas that a tower sees; one canvas per image, whatever the batch.

scale = size / max(width, height); the image is resized (bilinear, antialiased), lies at the top
left, and the rest is the tower's mean colour, which is zero after normalisation. Boxes on the
canvas are boxes times scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def canvas_scale(width: int, height: int, size: int) -> float:
    """Return canvas pixels per image pixel."""
    return size / max(width, height)


def scaled_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Return (width, height) of the resized image on the canvas, at least one pixel each."""
    scale = canvas_scale(width, height, size)
    return max(1, min(size, round(width * scale))), max(1, min(size, round(height * scale)))


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def letterbox(
    image: Tensor, size: int, mean: Sequence[float], std: Sequence[float], flip: bool = False
) -> Tensor:
    """Put an image on its canvas.

    Args:
        image: uint8 (3, H, W).
        size: side of the canvas in pixels.
        mean: the tower's pixel mean, three values in 0..1.
        std: the tower's pixel deviation.
        flip: mirror the content, so that a box's x becomes (scaled width) - x; the padding stays on
            the right.

    Returns:
        float32 (3, size, size), normalised; padding is zero.
    """
    height, width = image.shape[1:]
    columns, rows = scaled_size(width, height, size)
    content = image.float().unsqueeze(0) / 255
    if (rows, columns) != (height, width):
        content = functional.interpolate(
            content, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
        )
    if flip:
        content = content.flip(-1)
    mean_column, std_column = (
        torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (mean, std)
    )
    canvas = torch.zeros(1, 3, size, size)
    canvas[:, :, :rows, :columns] = (content - mean_column) / std_column
    return canvas[0]
