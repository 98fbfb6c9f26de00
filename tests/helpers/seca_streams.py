"""Streams of tiny tasks on a random CLIP, trained by the real stages."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

import clclip.clip.load
from clclip.classification import stages
from clclip.classification import train as learning
from clclip.classification.pixels import label_columns
from clclip.classification.records import Memory, read_record
from clclip.core.task import current_classes, read_task
from tests.helpers.seca import small_clip, tokenizer

GROUPS = [["ant", "bee"], ["cat", "dog"], ["elk", "fox"]]


@pytest.fixture
def random_clip(monkeypatch):
    """A random CLIP in place of resources/clip."""
    loaded = {"tokenizer": tokenizer, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    monkeypatch.setattr(
        clclip.clip.load, "load_clip", lambda folder: SimpleNamespace(model=small_clip(), **loaded)
    )


def run(files: list[Path]) -> list[dict]:
    """Train and predict the tasks; return their records."""
    resources = files[0].parents[4] / "resources"
    for file in files:
        stages.train(file, resources)
        stages.predict(file, resources)
    return [load_file(file.parent / "weights.safetensors") for file in files]


def prepared(files: list[Path], switches: dict | None = None):
    """Return the learner of the last task after begin_task, with the earlier tasks trained."""
    resources = files[0].parents[4] / "resources"
    for file in files[:-1]:
        stages.train(file, resources)
    task = read_task(files[-1])
    memory = Memory([read_record(f.parent / "weights.safetensors") for f in files[:-1]])
    learner, clip = learning.build_learner(task, memory, resources)
    split = json.loads((files[-1].parent / "train.json").read_text())
    labels = label_columns(split["images"], current_classes(task), files[-1])
    learner.begin_task(learning.pixels_of(split, task, resources, learner.context, clip), labels)
    return learner
