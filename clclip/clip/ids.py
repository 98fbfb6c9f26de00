"""Ids of CLIPs, text embeddings and feature stores: digests of what decides their values.

Torch-free, because the plan asks for ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.clip.prompts import TEMPLATES
from clclip.core.errors import InputError
from clclip.core.files import expanded
from clclip.core.task import text_names

WEIGHTS = Path(__file__).parent / "embedded" / "weights"
EMBEDDED = ("embedded", "embedded_cls", "embedded_map")  # architectures that ship with the package
_SAMPLES = 64  # places at which a large weights file is read for its id
_SAMPLE_BYTES = 1 << 16
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
FEATURE_FORMAT = 1  # of a feature store: raise it whenever stored values change


def clip_id(clip: dict[str, Any] | None) -> str:
    """Return the id of a CLIP, its folder's name under ``resources/clip``; torch-free.

    Args:
        clip: {"model": None or "embedded" or an open_clip name, "tag": str or None, "file": path or
            None}.

    Raises:
        InputError: if neither tag nor file says which weights, or the file is missing.
    """
    model, tag, file = clip_parts(clip)
    if model in EMBEDDED and file is None:
        path = embedded_weights(model)
        return f"{_slug(model)}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    if file is not None:
        return f"{_slug(model)}-{_slug(tag or 'file')}-{_file_digest(weights_file(file))}"
    return f"{_slug(model)}-{_slug(tag)}"


def text_id(clip_id: str, names: Sequence[str]) -> str:
    """Return the id of the embeddings of ``names``: a digest of CLIP, names, order, templates."""
    content = json.dumps([clip_id, list(names), list(TEMPLATES)], separators=(",", ":"))
    return f"{clip_id}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def text_file(task: Mapping[str, Any], resources: Path) -> Path:
    """Return the file of text embeddings of the seen classes of a task, in their order."""
    return resources / "text" / f"{text_id(task['clip']['id'], text_names(task))}.safetensors"


def feature_id(data: str, clip: str, size: int, dense: str, taps: Sequence[int], flip: bool) -> str:
    """Return the id of a store; everything that its values depend on is in it. Torch-free."""
    content = json.dumps([FEATURE_FORMAT, data, clip, size, dense, list(taps), bool(flip)])
    return f"{data}-{dense}{size}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def clip_parts(clip: dict[str, Any] | None) -> tuple[str, str | None, str | None]:
    """Return model, tag and file of a clip dictionary; no model means the embedded CLIP."""
    clip = clip or {}
    model, tag, file = clip.get("model") or "embedded", clip.get("tag"), clip.get("file")
    if model not in EMBEDDED and tag is None and file is None:
        raise InputError(
            f"{model} without weights", "clip", "a tag (clip.tag) or a local file (clip.file)"
        )
    return model, tag, file


def _slug(text: str | None) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")


def embedded_weights(model: str) -> Path:
    """Return the weights file of a CLIP that ships with the package."""
    path = WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        raise InputError(f"no weights of {model}", path, "the file `clclip pretrain-clip` writes")
    return path


def weights_file(file: str | Path) -> Path:
    """Return a weights file that the user gave; InputError if there is none of that name."""
    path = expanded(file)
    if not path.is_file():
        raise InputError(
            f"no such weights file {str(file)!r}",
            "clip.file",
            "an existing .safetensors or .pt file",
        )
    if path.suffix not in _SUFFIXES:
        raise InputError(
            f"weights file {path.name!r}", "clip.file", f"one of {', '.join(_SUFFIXES)}"
        )
    return path


def _file_digest(path: Path) -> str:
    """Return 8 hex digits of the size and of 64 samples: the plan must not read gigabytes.

    Training changes every weight, so two different checkpoints differ in some sample. The stage
    that loads the file stores its full digest.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            digest.update(file.read())
        else:
            for k in range(_SAMPLES):
                file.seek((size - _SAMPLE_BYTES) * k // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:8]
