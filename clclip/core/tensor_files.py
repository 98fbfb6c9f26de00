"""Safetensors files whose bytes depend on their content alone; torch-free."""

from __future__ import annotations

import json


def with_sorted_metadata(data: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted.

    The library writes metadata keys in an order that changes from process to process; sorted, equal
    runs make equal files.
    """
    length = int.from_bytes(data[:8], "little")  # the format: 8 bytes length, JSON header, tensors
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns tensors to 8 bytes by spaces
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
