"""A trained task as a classifier: one tower pass an image, everything else computed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clclip.classification.inference import hybrid_probabilities
from clclip.classification.options import CLASSIFIERS, ClassificationOptions
from clclip.classification.pixels import Pixels, over_batches
from clclip.classification.records import Memory, read_memory
from clclip.classification.seca.baselines import prototypes
from clclip.classification.seca.parts.visual import VisualSide
from clclip.classification.seca.prompts import template_text
from clclip.classification.seca.statistics import Joined, memory_rows, solved
from clclip.classification.train import build_visual, pixels_of
from clclip.core.artifacts import Task
from clclip.core.errors import InputError
from clclip.core.task import read_task, seen_classes, task_folders, text_names

EVAL_BATCH = 64


@dataclass
class Classifier:
    """A trained task, ready to predict; all texts are computed beforehand."""

    visual: VisualSide
    clip: Any
    classes: list[str]
    text: Tensor
    prototypes: Tensor | None
    solved: Joined | None = None

    def pixels_of(self, split: dict[str, Any], task: Task, resources: Path) -> Pixels:
        """Return the images of a split of the data set."""
        return pixels_of(split, task, resources, self.visual.context, self.clip)

    def pixels(self, paths: Sequence[Path]) -> Pixels:
        """Return images of any files."""
        context = self.visual.context
        return Pixels(paths, self.clip, context.tower.image_size, context.device)

    def probabilities(self, pixels: Pixels, batch: int = EVAL_BATCH) -> Tensor:
        """Return class probabilities (N, K)."""
        if not len(pixels):
            return torch.zeros(0, len(self.classes))
        return over_batches(
            len(pixels), batch, lambda rows: self.predict_probabilities(pixels[rows]).cpu()
        )

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return unit features (B, d) of normalised images (B, 3, side, side)."""
        tower = self.visual.context.tower
        return F.normalize(tower.feature(tower.stem(images), self.visual.adapters), dim=-1)

    @torch.no_grad()
    def predict_probabilities(self, images: Tensor) -> Tensor:
        """Return probabilities (B, K) of normalised images (B, 3, side, side)."""
        if self.solved is not None:
            rows = self.features(images).cpu().double().numpy()
            return torch.from_numpy(np.exp(self.solved.log_probabilities(rows))).float()
        options = self.visual.context.options
        return hybrid_probabilities(
            self.features(images),
            self.text,
            self.prototypes,
            options.inference_scale,
            options.text_weight,
        )


def load_classifier(task_file: Path, resources: Path) -> Classifier:
    """Load the classifier as it stood after a task.

    Raises:
        InputError: if the weights of a task are missing, damaged or of another method.
    """
    task = read_task(task_file)
    memory = read_memory(task_folders(task_file))
    visual, clip = build_visual(task, memory, resources)
    device, options = visual.context.device, visual.context.options
    if options.prompt == "template":
        text = template_text(clip.model, clip.tokenizer, text_names(task), options.template)[None]
    else:
        for folder, record in zip(task_folders(task_file), memory.records, strict=True):
            if "text" not in record:
                expected = "weights made by this task's method and switches"
                raise InputError("no tensor 'text'", folder / "weights.safetensors", expected)
        text = memory.text()
    rows = prototypes(options.classifier, memory)
    shape = (len(seen_classes(task)), visual.context.tower.embed_dim)
    for name, table in (("text", text), ("prototypes", rows)):
        if table is not None and table.shape[-2:] != shape:
            what = f"{name} of shape {tuple(table.shape[-2:])}"
            raise InputError(what, task_file.parent, f"{shape}: classes seen x width of the CLIP")
    return Classifier(
        visual,
        clip,
        seen_classes(task),
        text.to(device),
        None if rows is None else rows.to(device),
        _by_statistics(options, memory, text, task, task_file),
    )


def _by_statistics(
    options: ClassificationOptions,
    memory: Memory,
    text: Tensor,
    task: Task,
    task_file: Path,
) -> Joined | None:
    """Return the closed-form classifier over the tasks' records, None if the options name none."""
    if options.classifier not in CLASSIFIERS:
        return None
    expected = "weights made by this task's method and switches"
    keys = ("features", "labels", "raw", "drift.map", "drift.shift")
    records = [{k: r[k].numpy() for k in keys if k in r} for r in memory.records]
    for folder, record in zip(task_folders(task_file), records, strict=True):
        for key in keys[:3]:
            if key not in record:
                raise InputError(f"no tensor {key!r}", folder / "weights.safetensors", expected)
    try:
        halves = text.double().cpu().numpy(), options.inference_scale
        given = memory_rows(records), halves, options.join == "fitted"
        return solved(options.classifier, options.random_features, task["seed"], *given)
    except (ValueError, IndexError) as error:
        what = f"weights that do not fit ({error})"
        raise InputError(what, task_file.parent.parent, expected) from None
