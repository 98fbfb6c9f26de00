"""From a task file to a detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clclip.clip.ids import text_file
from clclip.clip.text import read_background, read_text
from clclip.core.artifacts import Task
from clclip.core.kind import method_of
from clclip.core.task import read_task, task_folders, trains_all
from clclip.detection.methods.detector import Detector, DetectorInputs
from clclip.detection.options.detector import DetectorOptions
from clclip.detection.registry import METHODS
from clclip.detection.weights import load_chain
from clclip.training.seeds import derive_seed


def make_detector(
    method: str, inputs: DetectorInputs, options: Mapping[str, Any] | DetectorOptions
) -> Detector:
    """Return the freshly initialised detector of a method; its weights are drawn from torch's seed.

    Args:
        method: a name of the registry.
        inputs: feature sizes, class groups and text embeddings.
        options: the method's options; those left out have their defaults.

    Raises:
        InputError: if there is no such method.
    """
    facts = method_of(METHODS, method)
    given = options if isinstance(options, DetectorOptions) else facts.given(options)
    detector: Detector = facts.load()(inputs, given)
    return detector


def build_detector(task: Task, resources: Path, width: int, stride: float) -> Detector:
    """Return the freshly initialised detector of a task, for all classes seen so far.

    Args:
        task: the task file.
        resources: folder of text embeddings.
        width: channels of the tower's taps.
        stride: pixels per token of the tower.
    """
    texts = text_file(task, resources)
    _, text = read_text(texts)
    groups, origins = task["groups"], task.get("origins", ())
    if trains_all(task):
        groups = [[name for group in groups for name in group]]
    background = read_background(texts)
    inputs = DetectorInputs(width, stride, groups, text, background, task["seed"], origins)
    # seeded without the task, so that equal modules of all tasks start from equal weights
    torch.manual_seed(derive_seed(task["seed"], "initial weights"))
    return make_detector(task["method"], inputs, task["switches"])


def load_detector(task_file: Path, resources: Path, width: int, stride: float) -> Detector:
    """Return the detector after a finished task, in eval mode, frozen.

    Args:
        task_file: task.json of the task; the weights of tasks 1..t lie in its siblings.
        resources: folder of text embeddings.
        width: channels of the tower's taps.
        stride: pixels per token of the tower.
    """
    model = build_detector(read_task(task_file), resources, width, stride)
    load_chain(model, [path / "weights.safetensors" for path in task_folders(task_file)])
    return model.finished()
