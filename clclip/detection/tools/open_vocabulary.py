"""What is left of the open vocabulary: AP of classes of later tasks, by the cost volume alone.

A class that no task has trained yet has no expert and no column, but it has a text. Boxes are the
detector's refined proposals; scores are the frozen CLIP's, p = softmax over all class texts of the
stream and the fixed background prompts of 75 * mean cost in the box (F-ViT's temperature). Between
two rows only the boxes change: what the detector still finds of things that it was never shown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clclip.clip.cost_volume import cost_volume
from clclip.clip.ids import text_file
from clclip.clip.text import read_background, read_text
from clclip.core.artifacts import Task
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json
from clclip.core.task import has_boxes, read_task, seen_classes
from clclip.detection.inputs.dataset import FeatureBatches, read_labels
from clclip.detection.inputs.online import open_features
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.region_maps import pool_maps
from clclip.detection.layers.regions import refine, select_detections
from clclip.detection.methods.detector import Detector
from clclip.detection.stages.build import load_detector
from clclip.detection.stages.recall import proposals_of
from clclip.detection.stages.train import PREDICT_BATCH, coco_results
from clclip.evaluation.ap import COCO_IOUS, average_precision
from clclip.evaluation.matching import Matching
from clclip.evaluation.predictions import class_ids
from clclip.training.device import precision, training_device

logger = logging.getLogger(__name__)

TEMPERATURE = 75.0


@torch.no_grad()
def detect_by_text(
    model: Detector, batch: Batch, text: Tensor, rest: Tensor
) -> list[dict[str, Tensor]]:
    """Return detections per image of classes that need no training.

    Args:
        model: gives boxes, of all its paths.
        batch: images.
        text: (K, d) unit texts of the classes asked for; labels are its rows.
        rest: (N, d) unit texts that compete with them.
    """
    cost = cost_volume(batch.dense, torch.cat([text, rest]))
    per_path = []
    for path, levels, proposals in proposals_of(model, batch):
        deltas = path.box(path.vectors(path.regions(levels, proposals)))
        parts = deltas.split([len(boxes) for boxes in proposals])
        extents = batch.canvas.image_sizes
        per_path.append(
            [refine(b, d, extent) for b, d, extent in zip(proposals, parts, extents, strict=True)]
        )
    boxes = [torch.cat(parts) for parts in zip(*per_path, strict=True)]
    prior = pool_maps(cost, boxes, model.stride).mean((2, 3))
    scores = functional.softmax(TEMPERATURE * prior.float(), dim=1)[:, : len(text)]
    results, s = [], model.options
    for own, score in zip(boxes, scores.split([len(b) for b in boxes]), strict=True):
        region, column = torch.where(score > s.score_threshold)
        results.append(
            select_detections(
                own[region],
                score[region, column],
                column,
                threshold=s.score_threshold,
                nms=s.nms,
                limit=s.detections,
            )
        )
    return results


Load = Callable[[Path, Path, int, float], Detector]
"""What ``load_detector`` does, or does for models that were merged too."""


def measure(
    run: Path,
    resources: Path,
    out: Path | None = None,
    tasks: int | None = None,
    load: Load = load_detector,
) -> str:
    """Return a table of ``future_average_precision`` for people, and write its rows as JSON."""
    rows = future_average_precision(run, resources, tasks, load)
    if out is not None:
        write_json(out, rows, indent=1)
    title = f"{run}: AP in percent of classes not yet trained, by the cost volume alone"
    lines = [title, f"{'after task':>10}  {'classes':>7}  {'AP':>5}"]
    for row in rows:
        value = _shown(row["AP"])
        lines.append(f"{row['task']:>10}  {len(row['per_class']):>7}  {value:>5}")
    return "\n".join(lines)


def future_average_precision(
    run: Path, resources: Path, tasks: int | None = None, load: Load = load_detector
) -> list[dict[str, Any]]:
    """Return AP (by the run's metric, percent) of later tasks' classes, after each but the last.

    Row t is at once "after task t" and "before task t + 1". The last task's test split is used for
    all rows.

    Args:
        run: a folder ``results/EXPERIMENT/seedN`` whose tasks are all trained.
        resources: folder of CLIPs, texts and features.
        tasks: how many tasks the stream has; None: all that are trained. A folder may hold more,
            of a stream that was longer once.
        load: makes the detector of a task file.

    Returns:
        rows {"task": t, "AP": mean, "per_class": {name: AP or None}}.

    Raises:
        InputError: if the run has fewer than two trained tasks, or a file is missing.
    """
    trained = tasks or len(list(run.glob("task*/weights.safetensors")))
    if trained < 2:
        raise InputError(f"{trained} trained tasks", run, "a run of at least two tasks")
    last = run / f"task{trained}" / "task.json"
    task = read_task(last)
    if not has_boxes(task):
        raise InputError(f"kind {task['kind']!r}", last, "a detection run")
    source = open_features(task, "test", resources, last.parent / "test.json")
    batches = FeatureBatches(read_labels(last.parent / "test.json", []), source)
    _, text = read_text(text_file(task, resources))
    background = read_background(text_file(task, resources))
    truth = read_json(last.parent / "test.json")
    rows = []
    for number in range(1, trained):
        file = run / f"task{number}" / "task.json"
        if not (file.parent / "test.json").is_file():
            continue  # a task of the model that the run started from: its texts are not here
        model = load(file, resources, source.width, source.stride)
        row = _row(
            task, model, batches, text, background, truth, len(seen_classes(read_task(file)))
        )
        rows.append({"task": number, **row})
        logger.info("after task %d: AP of later classes %s", number, _shown(row["AP"]))
    return rows


def _shown(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f}"


def _row(
    task: Task,
    model: Detector,
    batches: FeatureBatches,
    text: Tensor,
    background: Tensor,
    truth: dict[str, Any],
    known: int,
) -> dict[str, Any]:
    """Return the mean and the APs of all classes from column ``known`` on."""
    device = training_device()
    model = model.to(device)
    names = seen_classes(task)[known:]
    ids = class_ids(truth, names, Path("test.json"))
    rest = torch.cat([text[:known], background]).to(device)
    detections: list[dict[str, Any]] = []
    for start in range(0, len(batches.images), PREDICT_BATCH):
        members = list(range(start, min(start + PREDICT_BATCH, len(batches.images))))
        with precision(task["training"]["precision"], device):
            batch = batches.plain(members).to(device)
            per_image = detect_by_text(model, batch, text[known:].to(device), rest)
        for i, own in zip(members, per_image, strict=True):
            image = batches.images[i]
            scale, size = batches.letterboxed(image).scale, (image.width, image.height)
            own = {name: value.cpu() for name, value in own.items()}
            columns = [ids[n] for n in names]
            detections += coco_results(image.image_id, own, columns, scale, size)
    per_class = _percents(truth, detections, ids, task["evaluation"].get("ap", "voc_area"))
    values = [value for value in per_class.values() if value is not None]
    return {"AP": float(np.mean(values)) if values else None, "per_class": per_class}


def _percents(
    truth: dict[str, Any], detections: list[dict[str, Any]], ids: dict[str, int], metric: str
) -> dict[str, float | None]:
    """Return the AP of each class in percent, by one of ``METRIC_NAMES``."""
    matching = Matching(truth, detections, ids)
    if metric == "coco":
        values = matching.average_precision(COCO_IOUS)
    else:
        values = {
            name: average_precision(matches.true_positive, matches.object_images.size, metric)
            for name, matches in matching.match().items()
        }
    return {name: None if value is None else 100 * value for name, value in values.items()}
