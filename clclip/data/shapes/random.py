"""A small random generator in integers: a generated world has the same bytes everywhere.

Library generators may change their streams between versions; splitmix64 is fifteen lines and never
will.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
_MASK = 2**64 - 1


class Draws:
    """A stream of integers that depends on its key alone, e.g. ``Draws("shapes20", 7)``."""

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
        self._seed = np.uint64(int.from_bytes(digest[:8], "little"))
        self._used = 0

    def _words(self, count: int) -> np.ndarray:
        """Return the next ``count`` 64-bit words of splitmix64 (Steele et al. 2014)."""
        index = np.arange(self._used + 1, self._used + count + 1, dtype=np.uint64)
        self._used += count
        z = index * _GOLDEN + self._seed  # uint64 arrays wrap around, as the algorithm wants
        z = (z ^ (z >> np.uint64(30))) * _MULTIPLY_1
        z = (z ^ (z >> np.uint64(27))) * _MULTIPLY_2
        return z ^ (z >> np.uint64(31))

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return int64 values in [low, high], ends included; the modulo bias is below 2^-40."""
        words = self._words(int(np.prod(shape)))
        return (words % np.uint64(high - low + 1)).astype(np.int64).reshape(shape) + low

    def integer(self, low: int, high: int) -> int:
        """Return one integer in [low, high], both ends included."""
        self._used += 1  # one word of ``_words``, without the cost of arrays
        z = (self._used * int(_GOLDEN) + int(self._seed)) & _MASK
        z = (z ^ (z >> 30)) * int(_MULTIPLY_1) & _MASK
        z = (z ^ (z >> 27)) * int(_MULTIPLY_2) & _MASK
        return (z ^ (z >> 31)) % (high - low + 1) + low

    def choice(self, items: Sequence[Item]) -> Item:
        """Return one of ``items``, uniformly."""
        return items[self.integer(0, len(items) - 1)]
