"""Intersection over union of boxes written as COCO writes them."""

from __future__ import annotations

import numpy as np


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (N, M) overlaps of (N, 4) and (M, 4) boxes [x, y, w, h]; 0 for empty boxes."""
    first, second = np.reshape(first, (-1, 4)), np.reshape(second, (-1, 4))
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area = first[:, 2:].prod(axis=1)[:, None] + second[:, 2:].prod(axis=1)[None]
    return shared / np.maximum(area - shared, np.finfo(float).tiny)
