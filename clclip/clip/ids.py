"""Ids of text embeddings and feature stores: digests of what decides their values.

Torch-free, because the plan asks for ids. That of a CLIP is made in ``own/settle.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from clclip.clip.prompts import TEMPLATES
from clclip.core.artifacts import Task
from clclip.core.errors import InputError
from clclip.core.task import text_names

WEIGHTS = Path(__file__).parent / "embedded" / "weights"
EMBEDDED = ("embedded", "embedded_cls", "embedded_map")  # architectures that ship with the package
FEATURE_FORMAT = 1  # of a feature store: raise it whenever stored values change


def text_id(clip_id: str, names: Sequence[str]) -> str:
    """Return the id of the embeddings of ``names``: a digest of CLIP, names, order, templates."""
    content = json.dumps([clip_id, list(names), list(TEMPLATES)], separators=(",", ":"))
    return f"{clip_id}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def text_file(task: Task, resources: Path) -> Path:
    """Return the file of text embeddings of the seen classes of a task, in their order."""
    return resources / "text" / f"{text_id(task['clip']['id'], text_names(task))}.safetensors"


def feature_id(data: str, clip: str, size: int, dense: str, taps: Sequence[int], flip: bool) -> str:
    """Return the id of a store; everything that its values depend on is in it. Torch-free."""
    content = json.dumps([FEATURE_FORMAT, data, clip, size, dense, list(taps), bool(flip)])
    return f"{data}-{dense}{size}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def embedded_weights(model: str) -> Path:
    """Return the weights file of a CLIP that ships with the package."""
    path = WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        raise InputError(f"no weights of {model}", path, "the file `clclip pretrain-clip` writes")
    return path
