"""The stage ``calibrate`` of a detection task: its scores against images it did not train on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import write_json
from clclip.core.task import current_classes, has_boxes, read_task, seen_classes
from clclip.data.holdout import share_held_out
from clclip.data.split import held_out
from clclip.detection.inputs.dataset import FeatureBatches, read_labels
from clclip.detection.inputs.online import open_features
from clclip.detection.stages.build import load_detector
from clclip.detection.stages.train import PREDICT_BATCH, coco_results
from clclip.evaluation.calibrated.objective import Objective
from clclip.evaluation.calibrated.part import FILE, calibrate_part
from clclip.evaluation.calibrated.rows import rows_of
from clclip.evaluation.predictions import class_ids
from clclip.training.device import precision, to_device, training_device

logger = logging.getLogger(__name__)

HOLDOUT = "holdout.json"


def calibrate(task_file: Path, resources: Path) -> None:
    """Write holdout.json, the held-out images, and calibration.json beside a task file.

    The map and the thresholds are of the task's own classes; those of earlier classes were made
    with their tasks.

    Args:
        task_file: task.json of a trained task.
        resources: folder of the data's index, features, text embeddings and CLIPs.

    Raises:
        InputError: if the task holds nothing out, or an input is missing.
    """
    task, folder = read_task(task_file), task_file.parent
    if not has_boxes(task) or not share_held_out(task):
        what = "a task without training.holdout"
        raise InputError(
            what, task_file, "one that holds images out (or `clclip calibrate --data`)"
        )
    held = held_out(task_file, resources)
    write_json(folder / HOLDOUT, held)
    source = open_features(task, "train", resources, folder / HOLDOUT)
    device = training_device()
    mode = task["training"]["precision"]
    model = load_detector(task_file, resources, source.width, source.stride)
    to_device(model, device, mode)
    images = read_labels(folder / HOLDOUT, current_classes(task))
    batches = FeatureBatches(images, source)
    names = seen_classes(task)
    ids = class_ids(held, current_classes(task), folder / HOLDOUT)
    # detections of earlier classes get numbers of no category of the file
    columns = [ids.get(name, -1) for name in names]
    results: list[dict[str, Any]] = []
    for start in range(0, len(images), PREDICT_BATCH):
        members = list(range(start, min(start + PREDICT_BATCH, len(images))))
        with precision(mode, device):
            detected, _ = model.predict(batches.plain(members).to(device))
        for i, detections in zip(members, detected, strict=True):
            size = (images[i].width, images[i].height)
            scale = batches.letterboxed(images[i]).scale
            results += coco_results(images[i].image_id, detections, columns, scale, size)
    rows = rows_of(held, results, ids)
    objective = Objective.read(task["evaluation"].get("threshold") or "f1")
    part = calibrate_part(rows, current_classes(task), objective) | {"source": "holdout"}
    write_json(folder / FILE, part, indent=1)
    logger.info(
        "calibrated on %d held-out images, %d objects", rows.images, sum(rows.objects.values())
    )
