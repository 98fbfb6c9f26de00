"""Average precision of one class, from a ranked list of right and wrong detections.

Three ways to take the area under a precision-recall curve are in use, and papers rarely say which.
They differ by points, so every number of this package carries the name of its metric
(``METRIC_NAMES``).
"""

from __future__ import annotations

import numpy as np

METRIC_NAMES = {
    "voc_area": "AP50 (area)",
    "voc07": "AP50 (11-point)",
    "coco101": "AP50 (101-point)",
    "coco": "AP[.50:.95]",
}
LARGEST_CHUNK = 1 << 21  # detections times sets that are scored at once
COCO_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def average_precision(
    true_positive: np.ndarray, objects: int, metric: str = "voc_area"
) -> float | None:
    """Return the average precision in [0, 1], or None for a class without objects.

    Args:
        true_positive: (N,) bool, detections by falling score; ignored detections are left out
            beforehand.
        objects: number of ground-truth objects that count (neither crowd nor difficult).
        metric: ``voc_area``, the area under the monotone envelope of the curve (VOC 2010 and
            later, the default of this package); ``voc07``, the mean of the envelope at recall 0,
            0.1, ... 1; ``coco101``, the same at 101 recalls, equal to pycocotools on the same
            matches.

    Raises:
        ValueError: for an unknown metric, or more true positives than objects.
    """
    hits = np.cumsum(np.asarray(true_positive, dtype=np.int64))
    if objects == 0:
        return None
    if hits.size and hits[-1] > objects:
        raise ValueError(f"{hits[-1]} true positives for {objects} objects")
    precision = hits / np.arange(1, hits.size + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if metric == "voc_area":
        gained = np.diff(hits, prepend=0) / objects
        return float(np.sum(gained * envelope))
    if metric == "voc07":
        # Whole numbers on both sides: 0.3 from a float grid is 0.30000000000000004 and misses a
        # recall of 3/10.
        first = np.searchsorted(10 * hits, np.arange(11) * objects, side="left")
    elif metric == "coco101":
        first = np.searchsorted(hits / objects, np.linspace(0.0, 1.0, 101), side="left")
    else:
        raise ValueError(f"unknown AP metric {metric!r}; expected one of {sorted(METRIC_NAMES)}")
    return float(np.append(envelope, 0.0)[first].mean())


def average_precision_on(
    true_positive: np.ndarray,
    images: np.ndarray,
    object_images: np.ndarray,
    sets: np.ndarray,
    metric: str = "voc_area",
) -> np.ndarray:
    """Return the average precision on each of several sets of images, at once.

    A recall that is first reached by the k-th hit counts with the envelope there, so AP is a sum
    over hits: each counts for the recall, or the points of the grid, that it gains.

    Args:
        true_positive: (N,) bool, as in ``average_precision``.
        images: (N,) the image of each detection.
        object_images: (M,) the image of each object that counts.
        sets: (S, images) bool, the images of each set.
        metric: as in ``average_precision``.

    Returns:
        (S,) in [0, 1]; NaN for a set without an object.
    """
    rows = max(1, LARGEST_CHUNK // max(1, true_positive.size))
    if len(sets) > rows:
        parts = [sets[k : k + rows] for k in range(0, len(sets), rows)]
        return np.concatenate(
            [
                average_precision_on(true_positive, images, object_images, part, metric)
                for part in parts
            ]
        )
    objects = sets[:, object_images].sum(axis=1)
    chosen = sets[:, images]
    hit = chosen & true_positive
    hits = hit.cumsum(axis=1)
    precision = hits / np.maximum(chosen.cumsum(axis=1), 1)
    # what is not chosen repeats the precision before it, which lifts no envelope
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    gained = np.zeros_like(precision)
    for count in np.unique(objects[objects > 0]):
        own = objects == count
        gained[own] = _gained(int(count), metric)[np.maximum(hits[own], 1) - 1]
    values = (hit * envelope * gained).sum(axis=1)
    return np.where(objects > 0, values, np.nan)


def _gained(objects: int, metric: str) -> np.ndarray:
    """Return the share of AP (objects,) that the k-th of so many hits counts for."""
    if metric == "voc_area":
        return np.full(objects, 1 / objects)
    hits = np.arange(1, objects + 1)
    if metric == "voc07":
        first = np.searchsorted(10 * hits, np.arange(11) * objects, side="left")
    elif metric == "coco101":
        first = np.searchsorted(hits / objects, np.linspace(0.0, 1.0, 101), side="left")
    else:
        raise ValueError(f"unknown AP metric {metric!r}; expected one of {sorted(METRIC_NAMES)}")
    return np.bincount(first, minlength=objects) / first.size
