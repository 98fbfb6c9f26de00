"""Records of tasks over stored features, as safetensors; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clclip.core.errors import InputError
from clclip.core.files import write_bytes
from clclip.core.tensor_files import with_sorted_metadata

Array = np.ndarray
Record = dict[str, Array]


def write_record(path: Path, record: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a record, whole."""
    plain = {name: np.ascontiguousarray(value) for name, value in sorted(record.items())}
    write_bytes(path, with_sorted_metadata(save(plain, dict(metadata))))


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
