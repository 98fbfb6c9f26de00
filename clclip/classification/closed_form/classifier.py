"""A closed-form task as a classifier of image files: one tower pass a view, then sums."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from clclip.classification.features.builder import image_features
from clclip.classification.kind import CLASSIFICATION
from clclip.core.task import clip_dir, read_task


def judge_files(task_file: Path, resources: Path, paths: Sequence[Path]) -> np.ndarray:
    """Return probabilities (N, K) of all seen classes for image files.

    Args:
        task_file: of the task after which the classifier is asked.
        resources: folder of the run's CLIP.
        paths: N image files.

    Raises:
        InputError: if a record, the CLIP or an image is missing or wrong.
    """
    from clclip.clip.load import load_clip

    task = read_task(task_file)
    clip = load_clip(clip_dir(task, resources))
    size, mirror = task["features"]["size"] or None, task["features"]["flip"]
    arrays = image_features(clip, paths, size, mirror, task["features"]["taps"])
    features = np.stack(list(arrays.values()))
    stages = import_module(CLASSIFICATION.module("predict", task["method"]))
    solved = stages.load_solved(task_file, features.shape[-1])
    return np.exp(solved.log_probabilities(features))
