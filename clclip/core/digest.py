"""Digests: one canonical JSON text for equal values, SHA-256 of values and of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError


def canonical(value: Any) -> str:
    """Return ``value`` as the one JSON text that equal values share (sorted keys, no spaces)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 16) -> str:
    """Return the first ``length`` hex digits of the SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def files_sha256(*paths: Path) -> str:
    """Return one SHA-256 over the contents of several files, in their order.

    Raises:
        InputError: if one is missing.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            total.update(bytes.fromhex(file_sha256(path)))
        except OSError as error:
            reason = error.strerror or str(error)
            what = f"cannot be read ({reason})"
            raise InputError(what, path, "an earlier stage's output") from None
    return total.hexdigest()
