"""Training one task: the learner of a task file, its images, and the loop over them."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clclip.classification.pixels import Pixels, label_columns
from clclip.classification.records import Memory, read_memory, write_record
from clclip.classification.registry import method_options
from clclip.classification.seca.learner import Learner, task_context
from clclip.classification.seca.parts.context import Context
from clclip.classification.seca.parts.visual import VisualSide
from clclip.core.artifacts import (
    Task,
    read_stage_file,
)
from clclip.core.digest import files_sha256
from clclip.core.errors import InputError
from clclip.core.task import clip_dir, current_classes, previous_classes, task_folders, text_names
from clclip.data.index import image_root
from clclip.training import parallel
from clclip.training.fit import FitSettings, fit, remove_state
from clclip.training.history import History
from clclip.training.seeds import generator
from clclip.training.shares import Losses, Share, micro_batches
from clclip.training.tracking import tracker

logger = logging.getLogger(__name__)


def train_task(
    task: Task,
    task_file: Path,
    resources: Path,
    metadata: dict[str, str],
    attempt: int = 1,
) -> None:
    """Train the task of ``task_file``; write its weights.safetensors and history.csv."""
    folder = task_file.parent
    memory = read_memory(task_folders(task_file)[:-1])
    learner, clip = build_learner(task, memory, resources)
    split = read_stage_file(folder / "train.json", "labels")
    labels = label_columns(split["images"], current_classes(task), folder / "train.json")
    _check_counts(labels, current_classes(task), folder / "train.json")
    learner.begin_task(pixels_of(split, task, resources, learner.context, clip), labels)
    history = _fit(learner, task, folder, attempt)
    if parallel.rank():
        return  # the first process writes the files
    metadata = metadata | {"torch": torch.__version__}
    write_record(folder / "weights.safetensors", learner.record(), metadata)
    history.write(folder / "history.csv")
    remove_state(folder / "resume")


def build_learner(task: Task, memory: Memory, resources: Path) -> tuple[Learner, Any]:
    """Return the learner of a task on this machine's device, and its CLIP.

    Args:
        task: the task file.
        memory: records of the earlier tasks.
        resources: folder of the CLIPs.
    """
    clip = _load_clip(task, resources)
    names, old = text_names(task), len(previous_classes(task))
    options = method_options(task["method"], task["switches"])
    size = task["training"].get("image_size")
    seed = task["seed"]
    return Learner(clip.model, clip.tokenizer, names, old, options, memory, seed, size), clip


def build_visual(task: Task, memory: Memory, resources: Path) -> tuple[VisualSide, Any]:
    """Return the visual side of a finished task, and its CLIP; ``memory`` ends with that task."""
    clip = _load_clip(task, resources)
    count, old = len(text_names(task)), len(previous_classes(task))
    options = method_options(task["method"], task["switches"])
    size = task["training"].get("image_size")
    context = task_context(
        clip.model, count, old, options, memory, task["seed"], size, finished=True
    )
    return VisualSide(context, for_training=False), clip


def _load_clip(task: Task, resources: Path) -> Any:
    """Return the task's CLIP on this machine's device."""
    from clclip.clip.load import load_clip

    clip = load_clip(clip_dir(task, resources))
    clip.model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return clip


def pixels_of(
    split: dict[str, Any], task: Task, resources: Path, context: Context, clip: Any
) -> Pixels:
    """Return the images of a split; their paths start at the data set's root."""
    root = image_root(task, resources)
    paths = [root / image["file_name"] for image in split["images"]]
    return Pixels(paths, clip, context.tower.image_size, context.device)


def _check_counts(labels: Tensor, classes: list[str], where: Path) -> None:
    """Raise InputError if a class has fewer than two training images."""
    for name, count in zip(classes, torch.bincount(labels, minlength=len(classes)), strict=True):
        if count < 2:
            raise InputError(
                f"class {name!r} has {int(count)} training image(s)",
                where,
                "at least 2 images a class (or leave the class out of tasks)",
            )


def _fit(learner: Learner, task: Task, folder: Path, attempt: int) -> History:
    """Optimise the learner's parameters; every draw follows from (seed, task, purpose, step)."""
    training = task["training"]
    trained = learner.trained
    if not learner.is_trained or not training["epochs"]:
        return History(f"task {task['task']}", 0, training["batch_size"])
    count, size = len(learner.data.images), training["batch_size"]
    per_epoch = math.ceil(count / size)
    settings = FitSettings.of(training, per_epoch)
    orders: dict[int, Tensor] = {}
    utility = trained.get("utility")
    before: dict[int, Tensor] = {}  # the utility before a step

    def losses_at(step: int, share: Share) -> Losses | None:
        epoch, place = divmod(step, per_epoch)
        if epoch not in orders:
            orders.clear()
            draw = generator(task["seed"], task["task"], "order", epoch)
            orders[epoch] = torch.randperm(count, generator=draw)
        if utility is not None and step not in before:
            before.clear()
            before[step] = utility.detach().clone()
        batch = orders[epoch][place * size : (place + 1) * size]
        return learner.losses(batch, step, share) if len(share.part(batch)) else None

    def settle() -> None:
        if utility is not None:
            parallel.sum_changes(utility.data, *before.values())

    size_of = sum(p.numel() for p in trained.values() if p.requires_grad)
    facts = (task["task"], count, settings.steps, size_of)
    logger.info("task %d: %d images, %d steps, %d trained parameters", *facts)
    tracked = tracker(folder, task) if parallel.rank() == 0 else None
    history = fit(
        trained,
        losses_at,
        settings,
        label=f"task {task['task']}",
        resume=folder / "resume",
        digest=_run_digest(task, folder),
        micro_batches=micro_batches(size, attempt),
        lr_scale={"prompt": learner.options.prompt_lr},
        after_step=settle,
        listener=tracked,
    )
    if tracked is not None:
        tracked.close()
    return history


def _run_digest(task: Task, folder: Path) -> str:
    """Return a digest of what decides the run: the task, its images, the weights before it."""
    before = [
        folder.parent / f"task{number}" / "weights.safetensors" for number in range(1, task["task"])
    ]
    return files_sha256(folder / "task.json", folder / "train.json", *before)
