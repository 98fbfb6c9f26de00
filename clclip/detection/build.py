"""From a task file to a detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clclip.clip.text import read_background, read_text
from clclip.detection.clclip import ClClip
from clclip.detection.fvit import FViT
from clclip.detection.ior import IorFViT
from clclip.detection.mma import MmaFViT
from clclip.detection.pseudo import PseudoFViT
from clclip.detection.replay import ReplayFViT
from clclip.detection.switches import DetectionSwitches
from clclip.errors import InputError
from clclip.task_file import text_file
from clclip.training.seeds import derive_seed

DETECTORS: dict[str, type[FViT] | type[ClClip]] = {
    "fvit": FViT,
    "fvit_current": FViT,
    "fvit_mma": MmaFViT,
    "fvit_pseudo": PseudoFViT,
    "fvit_replay": ReplayFViT,
    "fvit_ior": IorFViT,
    "joint": FViT,
    "clclip": ClClip,
}
"""Method -> detector class; a new method is one file and one line here."""


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
    if task["method"] not in DETECTORS:
        expected = f"one of {', '.join(DETECTORS)}"
        raise InputError(f"method {task['method']!r} is not finished", "method", expected)
    kind = DETECTORS[task["method"]]
    if kind is ClClip:
        return ClClip(width, stride, switches, groups, text, background, task["seed"])
    return kind(width, stride, switches, groups, text)
