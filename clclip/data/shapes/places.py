"""Places: what stands behind the objects of an image and which light falls on all of it.

A place has a ground colour, a texture and a light. Images of different places differ as pictures of
one street do from pictures of another, while the objects and their classes stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clclip.data.shapes.objects import background
from clclip.data.shapes.random import Draws

FULL_LIGHT = 16  # a light of 16 sixteenths leaves a channel as it is


@dataclass(frozen=True)
class Place:
    """One place: ``tint`` is added to the ground, ``light`` multiplies the finished image.

    Args:
        tint: red, green and blue, added to the grey ground.
        texture: what is drawn on the ground.
        light: sixteenths of red, green and blue that reach the camera.
    """

    tint: tuple[int, int, int]
    texture: Literal["strokes", "tiles", "stripes", "discs"]
    light: tuple[int, int, int]


NOWHERE = Place((0, 0, 0), "strokes", (FULL_LIGHT, FULL_LIGHT, FULL_LIGHT))
PLACES: tuple[Place, ...] = (
    Place((35, 15, -15), "tiles", (17, 16, 14)),  # a tiled floor in warm light
    Place((-45, -15, 5), "stripes", (11, 13, 16)),  # planks in blue dusk
    Place((-25, 25, -35), "discs", (15, 16, 12)),  # gravel in a green shade
    Place((20, 20, 30), "strokes", (18, 18, 18)),  # scratched ice in bright light
)


def ground(side: int, place: Place, strokes: int, draws: Draws) -> np.ndarray:
    """Return an int64 image (side, side, 3): the ground of ``place`` with its texture.

    Args:
        side: side of the image in pixels.
        place: the place.
        strokes: most strokes on the ground where the texture is ``strokes``.
        draws: the image's draws.
    """
    image = background(side, side, draws) + np.array(place.tint)
    y, x = np.indices((side, side))
    if place.texture == "strokes":
        for _ in range(draws.integer(0, strokes)):
            _stroke(image, draws)
    elif place.texture == "tiles":
        edge, dx, dy = draws.integer(12, 26), draws.integer(0, 25), draws.integer(0, 25)
        light = ((x + dx) // edge + (y + dy) // edge) % 2
        image += (draws.integer(10, 26) * (2 * light - 1))[:, :, None]
    elif place.texture == "stripes":
        period, slope = draws.integer(8, 20), draws.integer(-3, 3)
        light = (2 * x + slope * y) // period % 2
        image += (draws.integer(8, 22) * (2 * light - 1))[:, :, None]
    else:
        for _ in range(draws.integer(15, 45)):
            cx, cy, radius = draws.integer(0, side), draws.integer(0, side), draws.integer(2, 9)
            inside = (x - cx) ** 2 + (y - cy) ** 2 <= radius**2
            image[inside] += draws.integer(-40, 40)
    return np.clip(image, 0, 255)


def lit(image: np.ndarray, place: Place) -> np.ndarray:
    """Return the int64 image (H, W, 3) in the light of ``place``."""
    return np.clip(image * np.array(place.light) // FULL_LIGHT, 0, 255)


def _stroke(image: np.ndarray, draws: Draws) -> None:
    """Draw a straight half-transparent line of 1 or 3 pixels' width between two random points."""
    last = len(image) - 1
    x0, y0, x1, y1 = (draws.integer(0, last) for _ in range(4))
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    along = np.arange(steps + 1)
    x, y = x0 + (x1 - x0) * along // steps, y0 + (y1 - y0) * along // steps
    colour, half = draws.integers(30, 220, (3,)), draws.integer(0, 1)
    drawn = np.zeros((len(image) + 2, len(image) + 2), dtype=bool)  # with a rim of one pixel
    for dy in range(1 - half, 2 + half):
        for dx in range(1 - half, 2 + half):
            drawn[y + dy, x + dx] = True
    drawn = drawn[1:-1, 1:-1]
    image[drawn] = (image[drawn] + colour) // 2
