"""Mosaics of captioned tiles: what the small CLIP is pre-trained on.

A 128 px image is cut into tiles along the token grid; a tile holds one object, or background alone,
and one caption. No box takes part: the only supervision is which caption belongs to which tile.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from clclip.data.shapes.objects import COLOURS, SHAPES, background, coverage, paste
from clclip.data.shapes.random import Draws

SIDE = 128
TOKENS = 16  # tokens along a side: patches of 8 px
PATCH = SIDE // TOKENS
# Ways to cut a side of the image, and of a window of 8 tokens; repeats are drawn more often.
_CUTS: tuple[tuple[int, ...], ...] = (
    (4, 4, 4, 4), (3, 5, 4, 4), (4, 4, 3, 5), (5, 3, 5, 3), (4, 3, 4, 5), (3, 4, 5, 4),
    (4, 4, 4, 4), (5, 6, 5), (6, 5, 5), (5, 5, 6), (7, 5, 4), (8, 8), (7, 9), (10, 6), (16,),
)  # fmt: skip
_HALF_CUTS: tuple[tuple[int, ...], ...] = ((4, 4), (4, 4), (3, 5), (5, 3), (8,))
_SINGLE = 10  # one whole image in ten shows a single large object, as classification does
_POOL = 256
_ANGLES = range(-25, 26, 5)
BACKGROUND = len(SHAPES) * len(COLOURS)  # caption index of an empty tile


@cache
def _cells(shape: str, size: int, angle: int) -> np.ndarray:
    """Return a cached coverage array; sizes and angles are few, so the cache stays below 20 MB."""
    return coverage(shape, size, angle)


class Mosaics:
    """An endless source of mosaics; a batch is a function of the seed and its number.

    Args:
        seed: of all draws.
        single: make every window one tile, for towers that pool a window into one embedding.
    """

    def __init__(self, seed: int, single: bool = False) -> None:
        self.seed, self.single = seed, single
        draws = Draws("pretrain", seed, "backgrounds")
        self._pool = [background(SIDE, SIDE, draws) for _ in range(_POOL)]

    def batch(
        self, number: int, size: int, window: int = TOKENS
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a batch whose tiles lie within windows of ``window`` tokens (4, 8 or 16).

        Returns:
            images uint8 (size, 128, 128, 3); tiles int64 (size, 16, 16), the tile of every token,
            counted over the whole batch; captions int64 (number of tiles,), class index or
            ``BACKGROUND``.
        """
        draws = Draws("pretrain", self.seed, "batch", number)
        images = np.empty((size, SIDE, SIDE, 3), dtype=np.uint8)
        tiles = np.empty((size, TOKENS, TOKENS), dtype=np.int64)
        captions: list[int] = []
        for k in range(size):
            images[k] = self._mosaic(draws, window, tiles[k], captions)
        return images, tiles, np.array(captions, dtype=np.int64)

    def _mosaic(
        self, draws: Draws, window: int, tiles: np.ndarray, captions: list[int]
    ) -> np.ndarray:
        """Draw one image, number its tiles in ``tiles`` and append their captions."""
        image = self._ground(draws).copy()
        patchwork = draws.integer(0, 2) == 0  # a ground of its own for every tile
        columns, rows = _cuts(window, draws), _cuts(window, draws)
        if self.single:
            columns = rows = (window,) * (TOKENS // window)
        elif window == TOKENS and draws.integer(0, _SINGLE - 1) == 0:
            columns = rows = (TOKENS,)
        empty = draws.choice((5, 15, 40))  # percent of tiles without an object
        y = 0
        for height in rows:
            x = 0
            for width in columns:
                tiles[y : y + height, x : x + width] = len(captions)
                box = (x * PATCH, y * PATCH, width * PATCH, height * PATCH)
                if patchwork:
                    left, top, w, h = box
                    image[top : top + h, left : left + w] = self._ground(draws)[:h, :w]
                captions.append(self._tile(image, box, empty, draws))
                x += width
            y += height
        return image

    def _ground(self, draws: Draws) -> np.ndarray:
        """Return one of the pooled backgrounds, mirrored at random; a view, int64 (128, 128, 3)."""
        image, flip = self._pool[draws.integer(0, _POOL - 1)], draws.integer(0, 3)
        return image[:: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]

    def _tile(self, image: np.ndarray, box: tuple[int, ...], empty: int, draws: Draws) -> int:
        """Draw the object of one tile and return its caption index."""
        values = draws.integers(0, 1 << 30, (12,))
        if values[0] % 100 < empty:
            return BACKGROUND
        shape, colour = int(values[1] % len(SHAPES)), int(values[2] % len(COLOURS))
        left, top, width, height = box
        side = min(width, height)
        least = max(16, side * 60 // 100)
        size = least + int(values[3]) % (side - least + 1)
        cells = _cells(SHAPES[shape], size, int(_ANGLES[values[4] % len(_ANGLES)]))
        x = left + int(values[5]) % (width - cells.shape[1] + 1)
        y = top + int(values[6]) % (height - cells.shape[0] + 1)
        base = np.array(list(COLOURS.values())[colour], dtype=np.int64)
        jitter = values[7] % 61 - 30 + values[8:11] % 37 - 18
        paste(image, cells, np.clip(base + jitter, 0, 255), x, y)
        return shape * len(COLOURS) + colour


def _cuts(window: int, draws: Draws) -> tuple[int, ...]:
    """Return how a side of the image is cut, in tokens."""
    if window == TOKENS:
        return draws.choice(_CUTS)
    if window == 8:
        return draws.choice(_HALF_CUTS) + draws.choice(_HALF_CUTS)
    return (window,) * (TOKENS // window)
