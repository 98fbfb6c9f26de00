"""Safetensors files whose bytes depend on their content alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from clclip.core.files import write_bytes
from clclip.core.tensor_files import with_sorted_metadata


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole; equal tensors and metadata make equal files."""
    stored = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    write_bytes(path, with_sorted_metadata(save(stored, dict(metadata))))
