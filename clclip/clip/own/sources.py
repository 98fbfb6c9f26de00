"""Where the CLIP of an experiment comes from, settled when a run is planned; torch-free.

``clip:`` of an experiment names files and places. What stages are given says content instead: the
text of the model config, the revision of a hub's model, an id made of digests. A job may run on
another host, and when it does the config file may have moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from clclip.clip.own import hub
from clclip.clip.own.model_config import NAME, Missing, parsed, read_text, tokenizer_name
from clclip.core.artifacts import ClipSource
from clclip.core.errors import InputError
from clclip.core.files import expanded

LOCAL = "local-dir:"
OWN = "config"  # what stages know as the model of a CLIP that is given by ``clip.config``
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_PREFERRED = (
    "open_clip_model.safetensors open_clip_pytorch_model.safetensors open_clip_pytorch_model.bin "
    "open_clip_pytorch_model.pth model.safetensors pytorch_model.bin pytorch_model.pth model.pth"
).split()  # open_clip's own names of the weights in a folder
_TOKENIZER = (
    "tokenizer*.json special_tokens_map.json added_tokens.json vocab.* merges.txt *.model "
    "config.json"
).split()
_SAMPLES = 64  # places at which a large weights file is read for its id
_SAMPLE_BYTES = 1 << 16


def is_own(clip: Mapping[str, Any]) -> bool:
    """Tell whether a CLIP brings its own model config, as a user gives it or as stages get it."""
    model = str(clip.get("model") or "")
    return bool(clip.get("config") or clip.get("config_text")) or model.startswith(
        (hub.PREFIX, LOCAL)
    )


def resolved(clip: Mapping[str, Any]) -> ClipSource:
    """Return a CLIP of one's own as stages get it.

    Args:
        clip: {"config", "file"}, or {"model": "hf-hub:..." or "local-dir:..."}; what this function
            has returned before comes back as it is.

    Returns:
        {"model", "config_text", "id"}, and "config", "file" and "tokenizer" (paths; the first for
        messages alone) or "revision".

    Raises:
        InputError: if something is missing or wrong, ``Missing`` in the first case.
    """
    if clip.get("config_text"):
        return cast(ClipSource, dict(clip))
    model = str(clip.get("model") or "")
    if model.startswith(hub.PREFIX):
        return _of_hub(model)
    if model.startswith(LOCAL):
        return _of_folder(expanded(model.removeprefix(LOCAL)))
    if clip.get("file") is None:
        raise InputError("clip.config without weights", "clip", "clip.file beside clip.config")
    path = expanded(str(clip["config"]))
    text = read_text(path, "clip.config")
    parsed(text, path)
    weights = weights_file(clip["file"])
    name = f"own-{_digest(text)}-{file_digest(weights)}"
    return ClipSource(model=OWN, config=str(path), config_text=text, file=str(weights), id=name)


def _of_hub(model: str) -> ClipSource:
    """Return a hub's model at the revision that its ``main`` is now."""
    revision, path = hub.config_file(model.removeprefix(hub.PREFIX))
    text = read_text(path, "clip.model")
    parsed(text, f"{model}: {NAME}", listed=False)
    name = f"{slug(model)}-{revision[:12]}"
    return {"model": model, "revision": revision, "config_text": text, "id": name}


def _of_folder(folder: Path) -> ClipSource:
    """Return the model of a folder as open_clip writes them."""
    if not folder.is_dir():
        raise Missing(f"no such folder {str(folder)!r}", "clip.model", f"a folder with {NAME}")
    if not (folder / NAME).is_file():
        raise Missing(f"no {NAME}", folder, "a folder as open_clip writes it")
    text = read_text(folder / NAME, "clip.model")
    config = parsed(text, folder / NAME, listed=False)
    weights = folder_weights(folder)
    clip = ClipSource(
        model=LOCAL.rstrip(":"),
        config=str(folder / NAME),
        config_text=text,
        file=str(weights),
        id=f"local-dir-{_digest(text)}-{file_digest(weights)}",
    )
    if tokenizer_name(config):  # open_clip then reads the tokenizer from the folder
        clip["tokenizer"] = str(folder)
        clip["id"] += f"-{_tokenizer_digest(folder)}"
    return clip


def folder_weights(folder: Path) -> Path:
    """Return the weights that open_clip takes from a folder.

    Raises:
        InputError: if there are none.
    """
    candidates = sorted(p for s in (".safetensors", ".bin", ".pth") for p in folder.glob(f"*{s}"))
    candidates.sort(key=lambda path: path.suffix != ".safetensors")
    named = sorted(
        (path for path in candidates if path.name in _PREFERRED),
        key=lambda path: _PREFERRED.index(path.name),
    )
    if not candidates:
        raise Missing("no weights", folder, "open_clip_model.safetensors beside the config")
    return (named or candidates)[0]


def weights_file(file: str | Path) -> Path:
    """Return a weights file that is there and may be one by its name.

    Raises:
        InputError: otherwise.
    """
    path = expanded(file)
    if not path.is_file():
        expected = "an existing .safetensors or .pt file"
        raise Missing(f"no such weights file {str(file)!r}", "clip.file", expected)
    if path.suffix not in SUFFIXES:
        expected = f"one of {', '.join(SUFFIXES)}"
        raise InputError(f"weights file {path.name!r}", "clip.file", expected)
    return path


def slug(text: str | None) -> str:
    """Return ``text`` as part of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")


def file_digest(path: Path) -> str:
    """Return 8 hex digits of the size and of 64 samples: the plan must not read gigabytes.

    Training changes every weight, so two different checkpoints differ in some sample. The stage
    that loads the file stores its full digest.
    """
    size = path.stat().st_size
    hasher = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            hasher.update(file.read())
        else:
            for k in range(_SAMPLES):
                file.seek((size - _SAMPLE_BYTES) * k // (_SAMPLES - 1))
                hasher.update(file.read(_SAMPLE_BYTES))
    return hasher.hexdigest()[:8]


def _digest(text: str) -> str:
    """Return 8 hex digits of a file's bytes, given as text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a folder that belong to its tokenizer or text tower, by name."""
    return sorted(
        {path for pattern in _TOKENIZER for path in folder.glob(pattern)} - {folder / NAME}
    )


def _tokenizer_digest(folder: Path) -> str:
    """Return 8 hex digits of the tokenizer in a folder."""
    hasher = hashlib.sha256()
    for path in tokenizer_files(folder):
        hasher.update(json.dumps([path.name, os.path.getsize(path)]).encode() + path.read_bytes())
    return hasher.hexdigest()[:8]
