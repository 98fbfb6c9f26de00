"""Average precision of one class, from a ranked list of right and wrong detections.

Three readings of the same precision-recall curve are in use, and papers rarely say which. They
differ by points, so every number of this package carries its reading's name (``METRIC_NAMES``).
"""

from __future__ import annotations

import numpy as np

METRIC_NAMES = {
    "voc_area": "AP50 (area)",
    "voc07": "AP50 (11-point)",
    "coco101": "AP50 (101-point)",
    "coco": "AP[.50:.95]",
}
COCO_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def average_precision(
    true_positive: np.ndarray, objects: int, flavour: str = "voc_area"
) -> float | None:
    """Return the average precision in [0, 1], or None for a class without objects.

    Args:
        true_positive: (N,) bool, detections by falling score; ignored detections are left out
            beforehand.
        objects: number of ground-truth objects that count (neither crowd nor difficult).
        flavour: ``voc_area``, the area under the monotone envelope of the curve (VOC 2010 and
            later, the default of this package); ``voc07``, the mean of the envelope at recall 0,
            0.1, ... 1; ``coco101``, the same at 101 recalls, equal to pycocotools on the same
            matches.

    Raises:
        ValueError: for an unknown flavour, or more true positives than objects.
    """
    hits = np.cumsum(np.asarray(true_positive, dtype=np.int64))
    if objects == 0:
        return None
    if hits.size and hits[-1] > objects:
        raise ValueError(f"{hits[-1]} true positives for {objects} objects")
    precision = hits / np.arange(1, hits.size + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if flavour == "voc_area":
        gained = np.diff(hits, prepend=0) / objects
        return float(np.sum(gained * envelope))
    if flavour == "voc07":
        # Whole numbers on both sides: 0.3 from a float grid is 0.30000000000000004 and misses a
        # recall of 3/10.
        first = np.searchsorted(10 * hits, np.arange(11) * objects, side="left")
    elif flavour == "coco101":
        first = np.searchsorted(hits / objects, np.linspace(0.0, 1.0, 101), side="left")
    else:
        raise ValueError(f"unknown AP flavour {flavour!r}; expected one of {sorted(METRIC_NAMES)}")
    return float(np.append(envelope, 0.0)[first].mean())
