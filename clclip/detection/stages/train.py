"""The stages ``train`` and ``predict`` of a detection task."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clclip.core.digest import files_sha256
from clclip.core.files import read_json, write_json
from clclip.core.task import (
    current_classes,
    read_task,
    seen_classes,
    task_folders,
)
from clclip.detection.inputs.dataset import FeatureBatches, prefetch, read_labels
from clclip.detection.inputs.online import open_features
from clclip.detection.inputs.views import image_boxes
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.fvit import FViT
from clclip.detection.methods.rehearsal.batches import open_rehearsal
from clclip.detection.stages.build import build_detector
from clclip.detection.stages.probe import IMAGES as PROBE_IMAGES
from clclip.detection.stages.probe import ProposalListener, write_probe
from clclip.detection.stages.recall import covered, recall_table
from clclip.detection.weights import load_chain, save_weights
from clclip.training import parallel
from clclip.training.device import placed, precision, training_device
from clclip.training.epochs import epochs_of
from clclip.training.fit import FitSettings, fit
from clclip.training.resume import remove_state
from clclip.training.shares import Losses, Share, micro_batches
from clclip.training.tracking import tracker

logger = logging.getLogger(__name__)

PREDICT_BATCH = 16
CALIBRATION_IMAGES = 64


def train(task_file: Path, resources: Path, attempt: int = 1) -> None:
    """Train one task; write weights.safetensors and history.csv beside its task file.

    Args:
        task_file: task.json of the task.
        resources: folder of features, text embeddings and CLIPs.
        attempt: from 2 on, batches are taken in ever smaller micro-batches.

    Raises:
        InputError: if an input is missing or does not fit.
    """
    task, folder = read_task(task_file), task_file.parent
    previous = [path / "weights.safetensors" for path in task_folders(task_file)[:-1]]
    digest = files_sha256(task_file, folder / "train.json", *previous)
    source = open_features(task, "train", resources, folder / "train.json")
    images = read_labels(folder / "train.json", current_classes(task))
    training = task["training"]
    batches = FeatureBatches(
        images, source, (task["seed"], task["task"]), augment=training["augment"]
    )
    model = build_detector(task, resources, source.width, source.stride)
    if previous:
        load_chain(model, previous, may_lack=_new_names(model, task["task"]))
    device = training_device()
    placed(model, device).begin_task()
    if isinstance(model, ClClip) and not previous:
        _calibrate_gate(model, batches, device)
    rehearsal = open_rehearsal(model, task, task_file, resources, batches, device)
    shown = batches if rehearsal is None else rehearsal.batches
    parameters = model.trained()
    counts = sum(value.numel() for value in parameters.values())
    total = sum(value.numel() for value in model.parameters())
    logger.info("task %d: %d of %d parameters are trained", task["task"], counts, total)
    steps = math.ceil(len(images) / training["batch_size"])
    settings = fit_settings(training, steps)

    def members_at(step: int, share: Share) -> tuple[int, Sequence[int]]:
        epoch, place = divmod(step, steps)
        size = training["batch_size"]
        return epoch, share.part(batches.order(epoch)[place * size : (place + 1) * size])

    def losses_at(step: int, share: Share) -> Losses | None:
        for later in range(step + 1, min(step + 1 + prefetch(), settings.steps)):
            shown.expect(*members_at(later, share))
        epoch, members = members_at(step, share)
        if not members:
            return None
        with precision(training["precision"], device):
            return model.losses(shown.training(epoch, members).to(device))

    tracked = tracker(folder, task) if parallel.rank() == 0 else None
    history = fit(
        parameters,
        losses_at,
        settings,
        label=f"task {task['task']}",
        resume=folder / "resume",
        digest=digest,
        micro_batches=micro_batches(training["batch_size"], attempt),
        listener=tracked,
    )
    shown.close()
    if tracked is not None:
        tracked.close()
    if parallel.rank():
        return  # the first process writes the files
    tensors: dict[str, Tensor] = dict(parameters)
    metadata = {"digest": digest}
    if rehearsal is not None:
        kept, told = rehearsal.remember()
        tensors, metadata = tensors | kept, metadata | told
    if isinstance(model, ClClip):
        _set_thresholds(model, batches, device)
        name = f"banks.{len(model.banks) - 1}.threshold"
        tensors[name] = model.banks[-1].threshold
    history.write(folder / "history.csv")
    save_weights(folder / "weights.safetensors", tensors, metadata)
    remove_state(folder / "resume")


def fit_settings(training: Mapping[str, Any], steps_per_epoch: int) -> FitSettings:
    """Return the numbers of the optimization from a task's training section."""
    steps = epochs_of(training, steps_per_epoch) * steps_per_epoch
    return FitSettings(
        steps=steps,
        lr=training["lr"],
        batch_size=training["batch_size"],
        optimizer=training["optimizer"],
        weight_decay=training["weight_decay"],
        warmup_steps=min(training["warmup_steps"], steps // 4),
        schedule=training["schedule"],
        milestones=tuple(round(part * steps) for part in training["milestones"]),
        grad_clip=training["grad_clip"] or 0.0,
    )


def _new_names(model: FViT | ClClip, task: int) -> list[str]:
    """Return the names of tensors that no earlier task can have stored."""
    new = (f"paths.{task - 1}.", f"banks.{task - 1}.")
    return [name for name in model.state_dict() if name.startswith(new)]


def _calibrate_gate(model: ClClip, batches: FeatureBatches, device: torch.device) -> None:
    """Start the gate's affine from the cost volume of the first training images."""
    first = range(min(CALIBRATION_IMAGES, len(batches.images)))
    costs = []  # few images at a time: features computed as training goes are large
    for start in range(0, len(first), PREDICT_BATCH):
        members = list(first[start : start + PREDICT_BATCH])
        dense = batches.plain(members).to(device).dense
        costs.append(model.gates(dense, model.classes_of(0))[0])
    model.gate.calibrate(torch.cat(costs))


def _set_thresholds(model: ClClip, batches: FeatureBatches, device: torch.device) -> None:
    """Fix the routing thresholds of this task's classes from its own labelled boxes."""
    if not model.switches.experts:
        return
    collected: list[list[Tensor]] = []
    for start in range(0, len(batches.images), PREDICT_BATCH):
        members = range(start, min(start + PREDICT_BATCH, len(batches.images)))
        collected.append(model.labelled_routing(batches.plain(list(members)).to(device)))
    values = [torch.cat(parts) for parts in zip(*collected, strict=True)]
    s = model.switches
    model.banks[-1].set_thresholds(values, s.route_recall, shares=s.route == "share")


def load_detector(task_file: Path, resources: Path, width: int, stride: float) -> FViT | ClClip:
    """Return the detector after a finished task, in eval mode, frozen.

    Args:
        task_file: task.json of the task; the weights of tasks 1..t lie in its siblings.
        resources: folder of text embeddings.
        width: channels of the tower's taps.
        stride: pixels per token of the tower.
    """
    model = build_detector(read_task(task_file), resources, width, stride)
    load_chain(model, [path / "weights.safetensors" for path in task_folders(task_file)])
    return model.eval().requires_grad_(False)


def predict(task_file: Path, resources: Path) -> None:
    """Detect on all test images of a task; write predictions.json beside its task file.

    Beside it go recall.json, what the proposals cover of previous and current classes, and what
    the diagnosis of forgetting reads: proposals.json and probe.json.
    """
    task, folder = read_task(task_file), task_file.parent
    source = open_features(task, "test", resources, folder / "test.json")
    device = training_device()
    model = placed(load_detector(task_file, resources, source.width, source.stride), device)
    images = read_labels(folder / "test.json", seen_classes(task))
    truth = read_json(folder / "test.json")
    categories = {c["name"]: c["id"] for c in truth["categories"]}
    ids = [categories[name] for name in seen_classes(task)]
    batches = FeatureBatches(images, source)
    listener = ProposalListener(model, task, truth)
    results: list[dict[str, Any]] = []
    hits: list[Tensor] = []
    labels: list[Tensor] = []
    for start in range(0, len(images), PREDICT_BATCH):
        members = list(range(start, min(start + PREDICT_BATCH, len(images))))
        with precision(task["training"]["precision"], device):
            batch = batches.plain(members).to(device)
            with listener:
                detected = model.detect(batch)
            hits += covered(listener.heard, batch.targets)
        listener.match(
            [images[i].image_id for i in members],
            [batches.letterboxed(images[i]).scale for i in members],
        )
        labels += [target["labels"] for target in batch.targets]
        for i, found in zip(members, detected, strict=True):
            size = (images[i].width, images[i].height)
            scale = batches.letterboxed(images[i]).scale
            results += coco_results(images[i].image_id, found, ids, scale, size)
        logger.info("predicted %d of %d images", members[-1] + 1, len(images))
    write_json(folder / "predictions.json", results)
    recall = recall_table(hits, labels, task["groups"])
    logger.info("recall of proposals: %s", {part: recall[part] for part in "PCA"})
    write_json(folder / "recall.json", recall, indent=1)
    listener.write(folder / "proposals.json")
    probe = list(range(min(PROBE_IMAGES, len(images))))
    write_probe(
        folder / "probe.json",
        model,
        batches.plain(probe).to(device),
        [images[i].image_id for i in probe],
    )


def coco_results(
    image_id: int,
    found: Mapping[str, Tensor],
    ids: list[int],
    scale: float,
    size: tuple[int, int],
) -> list[dict[str, Any]]:
    """Return one image's detections as COCO results in its own pixels and original category ids.

    Args:
        image_id: of the image.
        found: "boxes" on the canvas, "scores", "labels".
        ids: the category of each label.
        scale: canvas pixels per image pixel.
        size: (width, height) of the image.
    """
    boxes = image_boxes(found["boxes"], scale, size)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "image_id": image_id,
            "category_id": ids[label],
            "bbox": [round(value, 3) for value in box],
            "score": round(score, 6),
        }
        for box, score, label in zip(
            boxes.tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True
        )
    ]
