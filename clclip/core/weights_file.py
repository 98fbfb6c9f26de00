"""One plain line on why a weights file cannot be loaded.

torch's own message advises to load such files without its safeguard, and is coloured for a
terminal; that of safetensors is meant for those who write its headers.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_HEAD = 512  # bytes that tell what kind of file it is
_SAFE = ".safetensors"


def misfit(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], strict: bool = True
) -> str | None:
    """Return how the tensors of a file differ from those of a model, None if they fit.

    Args:
        wanted: the model's, by name.
        given: the file's, by name.
        strict: whether both must have the same names.
    """
    lacking = [name for name in wanted if name not in given] if strict else []
    unknown = [name for name in given if name not in wanted] if strict else []
    shapes = [
        f"{name} is {_shape(given[name])} instead of {_shape(value)}"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    parts = [
        _some("lacks", lacking),
        _some("holds besides", unknown),
        _some("", shapes),
    ]
    return "; ".join(filter(None, parts)) or None


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _some(lead: str, names: list[str]) -> str:
    """Return the first of several findings and their number."""
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if names[1:] else ""
    return f"{lead} {names[0]}{more}".strip()


def unreadable(path: Path) -> str:
    """Return what a file is that holds no tensors to be read: it never runs or unpickles it."""
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD)
    except OSError as error:
        return error.strerror or "cannot be read"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "the file is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "the file is a web page, saved in place of the weights"
    if text.startswith(b"version https://git-lfs"):
        return "the file is a Git LFS pointer: `git lfs pull` gets the weights"
    safe, packed, pickled = head[8:9] == b"{", head[:4] == b"PK\x03\x04", head[:1] == b"\x80"
    if path.suffix == _SAFE:
        if packed or pickled:
            return "the file was written by torch.save, its name says safetensors"
        return "the file is no safetensors file, or cut short"
    if safe:
        return f"the file is a safetensors file, its name says {path.suffix}"
    if packed:
        return _in_archive(path)
    if pickled:
        return "the file holds Python objects besides tensors, or is cut short"
    return "the file was not written by torch.save"


def _in_archive(path: Path) -> str:
    """Return why a zip archive of torch gives no state dict."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return "the file is cut short or damaged"
    if any("/code/" in name for name in names):
        return "the file is a TorchScript program, not a state dict"
    if not any(name.endswith("data.pkl") for name in names):
        return "the file is a zip archive, not written by torch.save"
    return "the file holds Python objects besides tensors, or no state dict"
