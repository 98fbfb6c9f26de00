"""From a task file to a detector."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clclip.clip.ids import text_file
from clclip.clip.text import read_background, read_text
from clclip.core.errors import InputError, nearest
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.fvit import FViT
from clclip.detection.options import DetectionSwitches
from clclip.detection.registry import METHODS
from clclip.training.seeds import derive_seed


def detector_class(method: str) -> type[FViT] | type[ClClip]:
    """Return the detector of a method.

    Raises:
        InputError: if there is no such method.
    """
    if method not in METHODS:
        expected = f"one of {', '.join(METHODS)}"
        raise InputError(f"unknown method {method!r}{nearest(method, METHODS)}", "method", expected)
    found = METHODS[method]
    return getattr(importlib.import_module(found.module), found.code.rpartition(".")[2])


def build_detector(
    task: Mapping[str, Any], resources: Path, width: int, stride: float
) -> FViT | ClClip:
    """Return the freshly initialised detector of a task, for all classes seen so far.

    Args:
        task: the task file.
        resources: folder of text embeddings.
        width: channels of the tower's taps.
        stride: pixels per token of the tower.
    """
    _, text = read_text(text_file(task, resources))
    background = read_background(text_file(task, resources))
    switches = DetectionSwitches(**task["switches"])
    groups = task["groups"]
    if task["method"] == "joint":
        groups = [[name for group in groups for name in group]]
    # seeded without the task, so that equal modules of all tasks start from equal weights
    torch.manual_seed(derive_seed(task["seed"], "initial weights"))
    kind = detector_class(task["method"])
    if issubclass(kind, ClClip):
        return kind(width, stride, switches, groups, text, background, task["seed"])
    return kind(width, stride, switches, groups, text)
