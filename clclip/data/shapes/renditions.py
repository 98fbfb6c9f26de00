"""The shifted domain of classification: objects as outlines, hatched, blurred or inverted.

All in integers, as ``shapes``. The small CLIP never saw these renditions, so its zero-shot
accuracy is mediocre and adaptation pays, as on ImageNet-R.
"""

from __future__ import annotations

import numpy as np

from clclip.data.shapes.objects import (
    COVERAGE_MAX,
    background,
    coverage,
    jittered_colour,
    paste,
    split_name,
)
from clclip.data.shapes.random import Draws

# Styles with how often, in sixteenths, each is drawn. Chosen so that the small CLIP's zero-shot
# accuracy is about one half (docs/embedded-world.md).
STYLES: dict[str, int] = {"plain": 3, "outline": 4, "hatched": 3, "blurred": 4, "inverted": 2}
_FAINT = 10  # sixteenths of the colour between the stripes of a hatching


def draw_style(draws: Draws) -> str:
    """Return a style, with the frequencies of ``STYLES``."""
    return draws.choice([style for style, weight in STYLES.items() for _ in range(weight)])


def outline(cells: np.ndarray, thickness: int) -> np.ndarray:
    """Keep the rim of ``cells``: the shape less its erosion by ``thickness`` pixels."""
    eroded = np.pad(cells, thickness)
    for _ in range(thickness):
        eroded = np.minimum.reduce(
            [eroded, *(np.roll(eroded, shift, axis) for shift in (-1, 1) for axis in (0, 1))]
        )
    return cells - eroded[thickness:-thickness, thickness:-thickness]


def hatch(cells: np.ndarray, period: int, slope: int) -> np.ndarray:
    """Keep diagonal stripes of ``cells``, half of every ``period`` pixels; the rest turns faint."""
    y, x = np.indices(cells.shape)
    stripe = (x + slope * y) % period < (period + 1) // 2
    return np.where(stripe, cells, cells.astype(np.int64) * _FAINT // COVERAGE_MAX).astype(np.uint8)


def blur(image: np.ndarray, radius: int) -> np.ndarray:
    """Return the box blur, applied twice, of an int64 image (H, W, 3); edges are repeated."""
    window = 2 * radius + 1
    for axis in (0, 1, 0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(image, pad, mode="edge"), axis=axis)
        length = image.shape[axis]
        ends = np.take(total, range(window, window + length), axis=axis)
        image = (ends - np.take(total, range(length), axis=axis)) // window
    return image


def rendition(name: str, side: int, style: str, draws: Draws) -> np.ndarray:
    """Draw one object of class ``name`` in ``style`` on a square image.

    Returns:
        uint8 (side, side, 3).
    """
    colour, shape = split_name(name)
    image = background(side, side, draws)
    cells = coverage(
        shape, draws.integer(side * 35 // 100, side * 60 // 100), draws.integer(-20, 20)
    )
    x = draws.integer(0, side - cells.shape[1])
    y = draws.integer(0, side - cells.shape[0])
    if style == "outline":
        cells = outline(cells, draws.integer(4, 6))
    elif style == "hatched":
        cells = hatch(cells, draws.integer(4, 6), draws.choice((-1, 1)))
    paste(image, cells, jittered_colour(colour, draws), x, y)
    if style == "blurred":
        image = blur(image, draws.integer(1, 3))
    elif style == "inverted":
        image = 255 - image
    return image.astype(np.uint8)
