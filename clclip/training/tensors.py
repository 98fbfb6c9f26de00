"""Safetensors files whose bytes depend on their content alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from clclip.core.files import write_bytes


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole.

    The library writes metadata keys in an order that changes from process to process; here they
    are sorted, so that equal runs make equal files.
    """
    stored = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    data = save(stored, dict(metadata))
    length = int.from_bytes(data[:8], "little")  # the format: 8 bytes length, JSON header, tensors
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns tensors to 8 bytes by spaces
    write_bytes(path, len(text).to_bytes(8, "little") + text + data[8 + length :])
