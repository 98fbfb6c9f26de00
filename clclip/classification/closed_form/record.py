"""What a closed-form task leaves behind: its features and labels, or its sums if they are smaller.

Keys of weights.safetensors: ``features`` (V, N, d) of V views and ``labels`` (N,) among the task's
classes, with ``folds`` (N,); or ``gram`` (M, M), ``cross`` (M, K_new) and ``counts`` (K_new,); for
discriminants joined with a ridge the same of the plain features as ``plain.gram`` and so on;
``text`` (K_new, d) where the classifier reads the class texts; ``penalty``, ``balance`` where a
rule chose one in this task.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clclip.classification.closed_form.sums import Sums
from clclip.core.errors import InputError
from clclip.core.files import write_bytes
from clclip.core.tensor_files import with_sorted_metadata

Array = np.ndarray
Record = dict[str, Array]

logger = logging.getLogger(__name__)


def write_record(path: Path, record: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a record, whole."""
    plain = {name: np.ascontiguousarray(value) for name, value in sorted(record.items())}
    write_bytes(path, with_sorted_metadata(save(plain, dict(metadata))))


def read_record(path: Path) -> Record:
    """Read the record of a closed-form task.

    Raises:
        InputError: if it is missing, damaged, not finite or another method's.
    """
    record = read_tensors(path)
    if "features" not in record and "gram" not in record:
        raise InputError("neither features nor sums", path, "a record of a closed-form method")
    return record


def read_tensors(path: Path, keys: Sequence[str] = ()) -> Record:
    """Read a safetensors file that holds at least ``keys``.

    Raises:
        InputError: if it is missing, damaged, not finite or lacks one.
    """
    expected = "the record that `clclip train` writes (train the earlier tasks first)"
    if not path.is_file():
        raise InputError("no such file", path, expected)
    try:
        with safe_open(path, framework="np") as file:
            record = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"not readable ({error})", path, expected) from None
    for name, value in record.items():
        if not np.isfinite(value).all():
            raise InputError(f"tensor {name!r} is not finite", path, "finite numbers")
    for key in keys:
        if key not in record:
            raise InputError(f"no tensor {key!r}", path, "a record made by this task's method")
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
