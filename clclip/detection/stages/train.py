"""The stages ``train`` and ``predict`` of a detection task."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clclip.core.artifacts import Task
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
from clclip.detection.methods.detector import Detector, RehearsalTask
from clclip.detection.stages.build import build_detector, load_detector
from clclip.detection.stages.probe import IMAGES as PROBE_IMAGES
from clclip.detection.stages.probe import ProposalOverlaps, write_probe
from clclip.detection.stages.recall import covered, recall_table
from clclip.detection.weights import load_chain, save_weights
from clclip.training import parallel
from clclip.training.device import precision, to_device, training_device
from clclip.training.fit import FitSettings, fit
from clclip.training.resume import remove_state
from clclip.training.shares import Losses, Share, micro_batches
from clclip.training.tracking import tracker

logger = logging.getLogger(__name__)

PREDICT_BATCH = 16


class TrainingData:
    """The batches of a task's training, step by step.

    Args:
        batches: what the model is shown.
        training: the task's training section.
        steps: number of steps of the whole training.
        device: where the model is.
    """

    def __init__(
        self,
        batches: FeatureBatches,
        training: Mapping[str, Any],
        steps: int,
        device: torch.device,
    ) -> None:
        self.batches, self.steps, self.device = batches, steps, device
        self.size, self.precision = training["batch_size"], training["precision"]
        self.per_epoch = math.ceil(len(batches.images) / self.size)

    def members(self, step: int, share: Share) -> tuple[int, Sequence[int]]:
        """Return the epoch of a step, and which images of its batch are at hand."""
        epoch, place = divmod(step, self.per_epoch)
        order = self.batches.order(epoch)
        return epoch, share.part(order[place * self.size : (place + 1) * self.size])

    def losses(self, model: Detector, step: int, share: Share) -> Losses | None:
        """Return the losses of a share of a step's batch; None if no image is at hand."""
        for later in range(step + 1, min(step + 1 + prefetch(), self.steps)):
            self.batches.submit(*self.members(later, share))
        epoch, members = self.members(step, share)
        if not members:
            return None
        with precision(self.precision, self.device):
            return model.losses(self.batches.training(epoch, members).to(self.device))


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
        images,
        source,
        (task["seed"], task["task"]),
        augment=training["augment"],
        repeat_threshold=training.get("repeat_threshold", 0.0),
    )
    model = build_detector(task, resources, source.width, source.stride)
    if previous:
        load_chain(model, previous, may_lack=model.new_tensors())
    device = training_device()
    to_device(model, device, training["precision"]).begin_task()
    if not previous:
        model.calibrate(batches)
    rehearsal = model.rehearsal(RehearsalTask(task, task_file, resources, batches))
    shown = batches if rehearsal is None else rehearsal.batches
    parameters = model.trained()
    _fit(model, parameters, task, folder, shown, digest, attempt)
    if parallel.rank():
        return  # the first process writes the files
    tensors: dict[str, Tensor] = dict(parameters)
    metadata = {"digest": digest}
    if rehearsal is not None:
        memory, notes = rehearsal.remember()
        tensors, metadata = tensors | memory, metadata | notes
    tensors |= model.fitted(batches)
    save_weights(folder / "weights.safetensors", tensors, metadata)
    remove_state(folder / "resume")


def _fit(
    model: Detector,
    parameters: Mapping[str, nn.Parameter],
    task: Task,
    folder: Path,
    shown: FeatureBatches,
    digest: str,
    attempt: int,
) -> None:
    """Train ``parameters`` on the batches; the first process writes history.csv."""
    training, label = task["training"], f"task {task['task']}"
    trained = sum(value.numel() for value in parameters.values())
    total = sum(value.numel() for value in model.parameters())
    logger.info("%s: %d of %d parameters are trained", label, trained, total)
    settings = FitSettings.of(training, math.ceil(len(shown.images) / training["batch_size"]))
    data = TrainingData(shown, training, settings.steps, model.device)
    tracked = tracker(folder, task) if parallel.rank() == 0 else None
    history = fit(
        parameters,
        lambda step, share: data.losses(model, step, share),
        settings,
        label=label,
        resume=folder / "resume",
        digest=digest,
        micro_batches=micro_batches(training["batch_size"], attempt),
        listener=tracked,
    )
    shown.close()
    if tracked is not None:
        tracked.close()
    if not parallel.rank():
        history.write(folder / "history.csv")


def predict(task_file: Path, resources: Path) -> None:
    """Detect on all test images of a task; write predictions.json beside its task file.

    Beside it go recall.json, the proposals' recall of previous and current classes, and what
    the diagnosis of forgetting reads: proposals.json and probe.json.
    """
    task, folder = read_task(task_file), task_file.parent
    source = open_features(task, "test", resources, folder / "test.json")
    device = training_device()
    mode = task["training"]["precision"]
    model = load_detector(task_file, resources, source.width, source.stride)
    to_device(model, device, mode)
    images = read_labels(folder / "test.json", seen_classes(task))
    truth = read_json(folder / "test.json")
    categories = {c["name"]: c["id"] for c in truth["categories"]}
    ids = [categories[name] for name in seen_classes(task)]
    batches = FeatureBatches(images, source)
    overlaps = ProposalOverlaps(len(model.shared_paths()), task, truth)
    results: list[dict[str, Any]] = []
    hits: list[Tensor] = []
    labels: list[Tensor] = []
    for start in range(0, len(images), PREDICT_BATCH):
        members = list(range(start, min(start + PREDICT_BATCH, len(images))))
        with precision(mode, device):
            batch = batches.plain(members).to(device)
            detected, proposed = model.predict(batch)
            hits += covered(proposed, batch.targets)
        ids_here = [images[i].image_id for i in members]
        overlaps.match(proposed, ids_here, [batches.letterboxed(images[i]).scale for i in members])
        labels += [target["labels"] for target in batch.targets]
        for i, detections in zip(members, detected, strict=True):
            size = (images[i].width, images[i].height)
            scale = batches.letterboxed(images[i]).scale
            results += coco_results(images[i].image_id, detections, ids, scale, size)
        logger.info("predicted %d of %d images", members[-1] + 1, len(images))
    write_json(folder / "predictions.json", results)
    recall = recall_table(hits, labels, task["groups"])
    shown = [f"{k} {recall[k]:.1f}" for k in "PCA" if recall[k] is not None]
    logger.info("recall of proposals in percent: %s", ", ".join(shown))
    write_json(folder / "recall.json", recall, indent=1)
    overlaps.write(folder / "proposals.json")
    probe = list(range(min(PROBE_IMAGES, len(images))))
    write_probe(
        folder / "probe.json",
        model,
        batches.plain(probe).to(device),
        [images[i].image_id for i in probe],
    )


def coco_results(
    image_id: int,
    detections: Mapping[str, Tensor],
    ids: list[int],
    scale: float,
    size: tuple[int, int],
) -> list[dict[str, Any]]:
    """Return one image's detections as COCO results in its own pixels and original category ids.

    Args:
        image_id: of the image.
        detections: "boxes" on the canvas, "scores", "labels".
        ids: the category of each label.
        scale: canvas pixels per image pixel.
        size: (width, height) of the image.
    """
    boxes = image_boxes(detections["boxes"], scale, size)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "image_id": image_id,
            "category_id": ids[label],
            "bbox": [round(value, 3) for value in box],
            "score": round(score, 6),
        }
        for box, score, label in zip(
            boxes.tolist(),
            detections["scores"].tolist(),
            detections["labels"].tolist(),
            strict=True,
        )
    ]
