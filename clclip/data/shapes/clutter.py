"""Cluttered scenes: objects that hide each other, in renditions, among look-alikes, with a theme.

The scenes of ``shapes20`` are easy: every second method solves them. Here each difficulty of real
pictures has a knob of its own (``difficulty.py``), and everything is drawn in integers too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clclip.data.shapes.difficulty import Difficulty
from clclip.data.shapes.objects import (
    COLOURS,
    COVERAGE_MAX,
    SHAPES,
    coverage,
    jittered_colour,
    paste,
    split_name,
)
from clclip.data.shapes.places import NOWHERE, PLACES, Place, ground, lit
from clclip.data.shapes.random import Draws
from clclip.data.shapes.renditions import blur, hatch, outline

# Colours that no class has; a square in one of them is a look-alike of the class squares.
OTHER_COLOURS: dict[str, tuple[int, int, int]] = {
    "purple": (140, 60, 170),
    "orange": (230, 125, 30),
    "cyan": (40, 185, 190),
    "pink": (230, 120, 170),
    "grey": (128, 128, 128),
}
STYLES = ("outline", "outline", "hatched", "faint")  # what an object not drawn plain looks like
THEMES = 4  # groups of consecutive classes; a scene's theme is one of them
_SOLID = 4  # sixteenths of a pixel that an object covers to count as its own
_TRIES = 20  # places tried before an object is left out of a crowded scene
_LIGHTING = 25  # look-alikes are lit as differently as objects


@dataclass
class _Canvas:
    """An image that is being drawn, with the visible pixels and the box of everything on it."""

    image: np.ndarray
    names: list[str | None] = field(default_factory=list)
    own: list[np.ndarray] = field(default_factory=list)  # bool (side, side): before occlusion
    seen: list[np.ndarray] = field(default_factory=list)  # bool (side, side): what is left of it
    boxes: list[tuple[int, int, int, int]] = field(default_factory=list)  # x0, y0, x1, y1


def place_of(number: int, difficulty: Difficulty) -> int | None:
    """Return the place (from 1) of the scene with this number (from 1); None if it has none."""
    return (number - 1) % difficulty.places + 1 if difficulty.places else None


def cluttered_scene(
    classes: list[str], difficulty: Difficulty, side: int, place: int | None, draws: Draws
) -> tuple[np.ndarray, list[tuple[str, list[int]]]]:
    """Draw one scene.

    Args:
        classes: the world's classes.
        difficulty: the knobs.
        side: side of the image in pixels.
        place: number of the place, from 1, or None.
        draws: the scene's draws.

    Returns:
        The image, uint8 (side, side, 3), and (class, [x, y, width, height]) per object: the tight
        box of its visible pixels.
    """
    there: Place = PLACES[place - 1] if place else NOWHERE
    canvas = _Canvas(ground(side, there, difficulty.strokes, draws))
    for name in _cast(classes, difficulty, draws):
        _put(canvas, name, classes, difficulty, draws)
    image = lit(canvas.image, there)
    if draws.integer(0, 99) < difficulty.blurred:
        image = blur(image, 1)
    objects = [
        (name, _tight_box(seen))
        for name, seen in zip(canvas.names, canvas.seen, strict=True)
        if name
    ]
    return image.astype(np.uint8), objects


def _cast(classes: list[str], difficulty: Difficulty, draws: Draws) -> list[str | None]:
    """Return the classes of a scene's objects, and None per look-alike, in order of drawing."""
    length = len(classes) // THEMES
    first = draws.integer(0, THEMES - 1) * length
    theme = classes[first : first + length]
    cast: list[str | None] = [
        draws.choice(theme if draws.integer(0, 99) < difficulty.theme else classes)
        for _ in range(draws.integer(*difficulty.objects))
    ]
    cast += [None] * draws.integer(0, difficulty.look_alikes)
    for last in range(len(cast) - 1, 0, -1):  # Fisher and Yates
        other = draws.integer(0, last)
        cast[last], cast[other] = cast[other], cast[last]
    return cast


def _put(
    canvas: _Canvas, name: str | None, classes: list[str], difficulty: Difficulty, draws: Draws
) -> None:
    """Draw an object, or a look-alike (None), where it hides no other too much, or not at all."""
    shape, colour = _appearance(name, classes, draws)
    style = draws.choice(STYLES) if draws.integer(0, 99) < difficulty.renditions else "plain"
    size = draws.integer(*difficulty.size)
    side = len(canvas.image)
    for _ in range(_TRIES):
        cells = coverage(shape, size, draws.integer(-25, 25))
        if style == "outline":
            cells = outline(cells, max(2, size // 9))
        elif style == "hatched":
            cells = hatch(cells, draws.integer(4, 6), draws.choice((-1, 1)))
        height, width = cells.shape
        x, y = draws.integer(0, side - width), draws.integer(0, side - height)
        solid = np.zeros((side, side), dtype=bool)
        solid[y : y + height, x : x + width] = cells >= _SOLID
        box = (x, y, x + width, y + height)
        if _hides_too_much(canvas, solid, box, difficulty.occlusion):
            continue
        if style == "faint":
            cells = (cells.astype(np.int64) * draws.integer(8, 12) // COVERAGE_MAX).astype(np.uint8)
        paste(canvas.image, cells, colour, x, y)
        canvas.seen = [seen & ~solid for seen in canvas.seen]
        canvas.names.append(name)
        canvas.own.append(solid)
        canvas.seen.append(solid)
        canvas.boxes.append(box)
        return


def _appearance(name: str | None, classes: list[str], draws: Draws) -> tuple[str, np.ndarray]:
    """Return the shape and the int64 colour (3,) of a class, or of something of no class."""
    if name:
        colour, shape = split_name(name)
        return shape, jittered_colour(colour, draws)
    shapes = list(dict.fromkeys(split_name(c)[1] for c in classes))
    others = [shape for shape in SHAPES if shape not in shapes]
    if others and draws.integer(0, 1):
        return draws.choice(others), jittered_colour(draws.choice(list(COLOURS)), draws)
    base = np.array(OTHER_COLOURS[draws.choice(list(OTHER_COLOURS))], dtype=np.int64)
    return draws.choice(shapes), np.clip(base + draws.integer(-_LIGHTING, _LIGHTING), 0, 255)


def _hides_too_much(
    canvas: _Canvas, solid: np.ndarray, box: tuple[int, int, int, int], occlusion: int
) -> bool:
    """Return whether something drawn here would hide more of the others than is allowed."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    for (x0, y0, x1, y1), own, seen in zip(canvas.boxes, canvas.own, canvas.seen, strict=True):
        width, height = min(x1, box[2]) - max(x0, box[0]), min(y1, box[3]) - max(y0, box[1])
        if width <= 0 or height <= 0:
            continue
        if width * height * 100 > occlusion * min(area, (x1 - x0) * (y1 - y0)):
            return True
        if int((own & ~(seen & ~solid)).sum()) * 100 > occlusion * int(own.sum()):
            return True
    return False


def _tight_box(seen: np.ndarray) -> list[int]:
    """Return [x, y, width, height] of the true pixels."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    ]
