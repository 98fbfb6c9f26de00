"""What a closed-form task leaves behind: its features and labels, or its sums if they are smaller.

Keys of weights.safetensors: ``features`` (V, N, d) of V views and ``labels`` (N,) among the task's
classes, with ``folds`` (N,); or ``gram`` (M, M), ``cross`` (M, K_new) and ``counts`` (K_new,); for
discriminants joined with a ridge the same of the plain features as ``plain.gram`` and so on;
``text`` (K_new, d) where the classifier reads the class texts; ``penalty``, ``balance`` where a
rule chose one in this task.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clclip.classification.closed_form.sums import Sums
from clclip.classification.features.records import Record, read_tensors
from clclip.core.errors import InputError

Array = np.ndarray

logger = logging.getLogger(__name__)

FOLDS = 5


def fold_of(image_id: int | str) -> int:
    """Return the fold of an image, by its id alone: the same whatever the order of tasks."""
    return hashlib.sha256(f"fold {image_id}".encode()).digest()[0] % FOLDS


def read_record(path: Path) -> Record:
    """Read the record of a closed-form task.

    Raises:
        InputError: if it is missing, damaged, not finite or another method's.
    """
    record = read_tensors(path)
    if "features" not in record and "gram" not in record:
        raise InputError("neither features nor sums", path, "a record of a closed-form method")
    return record


def check_widths(records: Sequence[Record], folders: Sequence[Path], width: int) -> None:
    """Refuse records of another CLIP or of other switches.

    Args:
        records: of tasks 1..t.
        folders: where they lie.
        width: of features, or of what is summed, whichever a record holds.

    Raises:
        InputError: naming the first record that does not fit.
    """
    for record, folder in zip(records, folders, strict=True):
        actual = record["features"].shape[-1] if "features" in record else width
        if actual != width:
            expected = f"features of width {width}, as this task's CLIP gives"
            raise InputError(
                f"features of width {actual}", folder / "weights.safetensors", expected
            )


def row_record(features: Array, labels: Array, folds: Array) -> Record:
    """Return the record of a task as rows: float32 features (V, N, d), labels and folds (N,)."""
    return {
        "features": np.asarray(features, dtype=np.float32),
        "labels": np.asarray(labels, dtype=np.int32),
        "folds": np.asarray(folds, dtype=np.int32),
    }


def sum_record(sums: Sums, prefix: str = "") -> Record:
    """Return the record of a task as sums."""
    parts = {"gram": sums.gram, "cross": sums.cross, "counts": sums.counts}
    return {prefix + name: np.asarray(value, dtype=np.float64) for name, value in parts.items()}


def read_sums(record: Record, prefix: str = "") -> Sums:
    """Return the sums that a record holds."""
    return Sums(*(record[prefix + name] for name in ("gram", "cross", "counts")))


def rows_are_smaller(shape: Sequence[int], widths: Sequence[int], classes: int) -> bool:
    """Tell whether a task's features take less than its sums, and say what both would take.

    Args:
        shape: (V, N, d) of the features.
        widths: M of each set of sums that the classifier needs.
        classes: of the task.
    """
    views, images, width = shape
    features = 4 * views * images * width + 8 * images
    sums = sum(8 * (size * size + size * classes + classes) for size in widths)
    chosen = "features" if features <= sums else "sums"
    sizes = (min(features, sums) / 2**20, features / 2**20, sums / 2**20)
    logger.info("record: %s, %.3f MiB (features %.3f, sums %.3f)", chosen, *sizes)
    return chosen == "features"
