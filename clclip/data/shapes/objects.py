"""The drawn objects of the embedded benchmark: 20 shapes x 4 colours, rasterised in integers.

A shape is a list of closed contours in a unit of its own; pixels are filled by the even-odd rule.
Everything from the rotation table to the blending is integer arithmetic, so the bytes are the same
on every machine.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from clclip.data.shapes.random import Draws

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 45, 40),
    "green": (45, 165, 60),
    "blue": (45, 75, 215),
    "yellow": (230, 200, 40),
}
SHAPES: tuple[str, ...] = (
    "circle", "square", "triangle", "star", "cross",
    "ring", "diamond", "heart", "arrow", "crescent",
    "frame", "hexagon", "semicircle", "trapezoid", "hourglass",
    "ellipse", "bolt", "tee", "chevron", "clover",
)  # fmt: skip

COVERAGE_MAX = 16  # 4 x 4 samples per pixel
_SAMPLES = 4
_FIXED = 64  # fixed-point units per pixel; a sample is 16 units wide
_STEP = _FIXED // _SAMPLES
_UNIT = 4096
# Rounded to 1/4096, the table does not depend on the last bit of a C library's sine.
_SINE = [round(_UNIT * math.sin(math.radians(degree))) for degree in range(360)]


def class_names(count: int) -> list[str]:
    """Return the first ``count`` of the 80 classes, shape by shape: small worlds are prefixes."""
    names = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
    if not 0 < count <= len(names):
        raise ValueError(f"got {count} classes; expected 1 to {len(names)}")
    return names[:count]


def split_name(name: str) -> tuple[str, str]:
    """Return (colour, shape) of a class such as "red circle"."""
    colour, shape = name.split()
    return colour, shape


def _sine(degree: int) -> int:
    return _SINE[degree % 360]


def _cosine(degree: int) -> int:
    return _SINE[(degree + 90) % 360]


def _arc(start: int, end: int, step: int, rx: int = 1000, ry: int = 1000) -> list[tuple[int, int]]:
    """Return points of an ellipse arc around the origin; degrees, counted from "up", clockwise."""
    return [(rx * _sine(a) // _UNIT, -ry * _cosine(a) // _UNIT) for a in range(start, end, step)]


def _alternating(points: int, inner: int) -> list[tuple[int, int]]:
    """Return a star with ``points`` tips: radii 1000 and ``inner`` in turn."""
    half = 180 // points
    radii = [1000 if k % 2 == 0 else inner for k in range(2 * points)]
    return [
        (r * _sine(k * half) // _UNIT, -r * _cosine(k * half) // _UNIT) for k, r in enumerate(radii)
    ]


def _heart() -> list[tuple[int, int]]:
    """Return the usual heart curve x = 16 sin^3, y = 13 cos - 5 cos 2 - 2 cos 3 - cos 4."""
    points = []
    for a in range(0, 360, 6):
        x = 16 * _sine(a) ** 3 * 60 // _UNIT**3
        y = 13 * _cosine(a) - 5 * _cosine(2 * a) - 2 * _cosine(3 * a) - _cosine(4 * a)
        points.append((x, -y * 60 // _UNIT))
    return points


def _clover() -> list[tuple[int, int]]:
    """Return four round leaves: radius 550 + 450 cos(4 a)."""
    points = []
    for a in range(0, 360, 4):
        radius = 550 + 450 * _cosine(4 * a) // _UNIT
        points.append((radius * _sine(a) // _UNIT, -radius * _cosine(a) // _UNIT))
    return points


def _box(half: int) -> list[tuple[int, int]]:
    return [(-half, -half), (half, -half), (half, half), (-half, half)]


def _crescent() -> list[tuple[int, int]]:
    """Return a disc less a smaller disc (radius 800, shifted by 450); the arcs meet in two tips."""
    outer = _arc(141, 400, 7)
    inner = [(450 + x, y) for x, y in _arc(167, 374, 6, 800, 800)]
    return outer + inner[::-1]


@cache
def _contours(shape: str) -> tuple[np.ndarray, ...]:
    """Return the contours of ``shape``: int64 arrays (vertices, 2), y pointing down."""
    table: dict[str, list[list[tuple[int, int]]]] = {
        "circle": [_arc(0, 360, 6)],
        "square": [_box(1000)],
        "triangle": [[(0, -1000), (1000, 800), (-1000, 800)]],
        "star": [_alternating(5, 400)],
        "cross": [[(-330, -1000), (330, -1000), (330, -330), (1000, -330), (1000, 330), (330, 330),
                   (330, 1000), (-330, 1000), (-330, 330), (-1000, 330), (-1000, -330),
                   (-330, -330)]],
        "ring": [_arc(0, 360, 6), _arc(0, 360, 6, 560, 560)],
        "diamond": [[(0, -1000), (600, 0), (0, 1000), (-600, 0)]],
        "heart": [_heart()],
        "arrow": [[(-1000, -300), (100, -300), (100, -800), (1000, 0), (100, 800),
                   (100, 300), (-1000, 300)]],
        "crescent": [_crescent()],
        "frame": [_box(1000), _box(560)],
        "hexagon": [_arc(0, 360, 60)],
        "semicircle": [_arc(-90, 91, 6)],
        "trapezoid": [[(-450, -600), (450, -600), (1000, 600), (-1000, 600)]],
        "hourglass": [[(-800, -1000), (800, -1000), (120, 0), (800, 1000),
                       (-800, 1000), (-120, 0)]],
        "ellipse": [_arc(0, 360, 6, 1000, 560)],
        "bolt": [[(200, -1000), (-600, 150), (-50, 150), (-250, 1000),
                  (600, -200), (50, -200), (500, -1000)]],
        "tee": [[(-900, -1000), (900, -1000), (900, -400), (300, -400), (300, 1000), (-300, 1000),
                 (-300, -400), (-900, -400)]],
        "chevron": [[(-1000, 200), (0, -800), (1000, 200), (1000, 800), (0, -200), (-1000, 800)]],
        "clover": [_clover()],
    }  # fmt: skip
    return tuple(np.array(contour, dtype=np.int64) for contour in table[shape])


def _placed(shape: str, size: int, angle: int) -> tuple[list[np.ndarray], int, int]:
    """Rotate by ``angle`` degrees and scale so that the longer side is ``size`` pixels.

    Returns:
        The contours in fixed-point units with their least corner at (0, 0), and width and height in
        pixels.
    """
    sine, cosine = _sine(angle), _cosine(angle)
    turned = [
        np.stack([c[:, 0] * cosine - c[:, 1] * sine, c[:, 0] * sine + c[:, 1] * cosine], axis=1)
        for c in _contours(shape)
    ]
    low, high = (
        np.min(turned[0], axis=0),
        np.max(turned[0], axis=0),
    )  # the first contour is the outer one
    extent = int(np.max(high - low))
    placed = [(c - low) * (size * _FIXED) // extent for c in turned]
    width, height = (int(-(-v // _FIXED)) for v in np.max(placed[0], axis=0))
    return placed, width, height


def coverage(shape: str, size: int, angle: int = 0) -> np.ndarray:
    """Rasterise ``shape`` into a tight uint8 array (height, width) of coverage in 0..16.

    Args:
        shape: one of ``SHAPES``.
        size: longer side of the result in pixels.
        angle: clockwise rotation in degrees.
    """
    contours, width, height = _placed(shape, size, angle)
    rows, columns = height * _SAMPLES, width * _SAMPLES
    y = np.arange(rows, dtype=np.int64)[None, :] * _STEP + _STEP // 2  # sample centres, (1, rows)
    flips = np.zeros((rows, columns + 1), dtype=np.int64)
    for contour in contours:
        x0, y0 = contour[:, :1], contour[:, 1:]  # (edges, 1)
        x1, y1 = np.roll(x0, -1, axis=0), np.roll(y0, -1, axis=0)
        crosses = (y0 <= y) != (y1 <= y)  # (edges, rows)
        rise = np.where(y1 == y0, 1, y1 - y0)
        x = x0 + (y - y0) * (x1 - x0) // rise  # floor division: exact, the same everywhere
        first = np.clip((x + _STEP // 2 - 1) // _STEP, 0, columns)  # first sample at or right of x
        edge, row = np.nonzero(crosses)
        np.add.at(flips, (row, first[edge, row]), 1)
    inside = np.cumsum(flips, axis=1)[:, :columns] % 2  # even-odd rule
    cells = inside.reshape(height, _SAMPLES, width, _SAMPLES).sum(axis=(1, 3)).astype(np.uint8)
    return _trimmed(cells)


def _trimmed(cells: np.ndarray) -> np.ndarray:
    """Cut empty border rows and columns, so that the array is the tight box."""
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    return cells[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def jittered_colour(colour: str, draws: Draws) -> np.ndarray:
    """Return int64 (3,): the named colour in one of many lightings."""
    base = np.array(COLOURS[colour], dtype=np.int64)
    lightness = draws.integer(-25, 25)
    return np.clip(base + lightness + draws.integers(-15, 15, (3,)), 0, 255)


def background(width: int, height: int, draws: Draws) -> np.ndarray:
    """Return an int64 image (height, width, 3): a smooth greyish field with fine noise."""
    cells, cell = 4, 32 * 8  # a 5 x 5 grid of colours, interpolated in 256ths
    grey = draws.integers(60, 200, (1, 1, 1)) + draws.integers(-35, 35, (cells + 1, cells + 1, 1))
    grid = grey + draws.integers(-22, 22, (cells + 1, cells + 1, 3))
    y, x = np.arange(height) * cells * cell // height, np.arange(width) * cells * cell // width
    yi, xi = y // cell, x // cell
    yf, xf = (y % cell)[:, None, None], (x % cell)[None, :, None]
    rows = grid[yi] * (cell - yf) + grid[yi + 1] * yf  # (height, cells + 1, 3)
    smooth = (rows[:, xi] * (cell - xf) + rows[:, xi + 1] * xf) // (cell * cell)
    noise = draws.integers(-8, 8, (height, width, 1)) + draws.integers(-3, 3, (height, width, 3))
    return np.clip(smooth + noise, 0, 255)


def paste(image: np.ndarray, cells: np.ndarray, colour: np.ndarray, x: int, y: int) -> None:
    """Blend ``colour`` into int64 ``image`` (H, W, 3) in place, its corner at pixel (x, y)."""
    height, width = cells.shape
    alpha = cells[:, :, None].astype(np.int64)
    part = image[y : y + height, x : x + width]
    part[:] = (part * (COVERAGE_MAX - alpha) + colour * alpha + COVERAGE_MAX // 2) // COVERAGE_MAX
