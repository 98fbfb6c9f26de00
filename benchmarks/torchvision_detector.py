"""What a user would pick instead: python benchmarks/torchvision_detector.py [--quick].

torchvision's fasterrcnn_mobilenet_v3_large_320_fpn, fine-tuned task after task on the scenes of
shapes_10_10, beside CL-CLIP on the same scenes. Its weights are random: none can be downloaded
here, so it starts at a disadvantage that a user with a network has not. Each task trains its own
labels; mAP@A (AP50, area) is measured as training goes, and the clock counts training alone.
``--run`` names a trained CL-CLIP run, whose history.csv tells its seconds.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import measure
import torch
import worlds
from PIL import Image
from torch import Tensor
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.transforms.functional import pil_to_tensor

from clclip.core.files import read_json
from clclip.detection.inputs.dataset import LabelledImage, read_labels
from clclip.evaluation.ap import average_precision
from clclip.evaluation.matching import match
from clclip.training.seeds import generator

BATCH = 8


class Task:
    """Images and labels that one task trains on: those that show a current class."""

    def __init__(self, images: list[LabelledImage], first: int, count: int) -> None:
        self.images, self.targets = [], []
        for image in images:
            own = (image.labels >= first) & (image.labels < first + count)
            if own.any():
                target = {"boxes": image.boxes[own], "labels": image.labels[own] + 1}
                self.images.append(image.image_id)
                self.targets.append(target)


def pixels(folder: Path, split: str) -> dict[int, Tensor]:
    """Return the images of a split by id, floats in 0..1."""
    found = json.loads((folder / f"{split}.json").read_text())["images"]
    home = folder / "images"
    return {i["id"]: pil_to_tensor(Image.open(home / i["file_name"])) / 255 for i in found}


def mean_precision(model: torch.nn.Module, images: dict[int, Tensor], truth: dict) -> float:
    """Return mAP@A in percent."""
    model.eval()
    names = {c["name"]: c["id"] for c in truth["categories"]}
    found, ids = [], list(images)
    with torch.no_grad():
        for start in range(0, len(ids), 16):
            part = ids[start : start + 16]
            for image, own in zip(part, model([images[i] for i in part]), strict=True):
                boxes = own["boxes"].clone()
                boxes[:, 2:] -= boxes[:, :2]
                found += [
                    {"image_id": image, "category_id": label, "bbox": box, "score": score}
                    for box, score, label in zip(
                        boxes.tolist(), own["scores"].tolist(), own["labels"].tolist(), strict=True
                    )
                ]
    matches = match(truth, found, names).values()
    values = [average_precision(m.true_positive, m.object_images.size, "voc_area") for m in matches]
    return 100 * sum(v for v in values if v is not None) / len(values)


def fine_tune(chosen: Any, folder: Path, epochs: int, limit: int | None) -> list[dict[str, Any]]:
    """Train task after task; return a row per epoch."""
    truth = read_json(folder / "test.json")
    names = [category["name"] for category in truth["categories"]]
    images = read_labels(folder / "train.json", names)[:limit]
    shown, test = pixels(folder, "train"), pixels(folder, "test")
    test = dict(list(test.items())[:limit])
    truth["images"] = [i for i in truth["images"] if i["id"] in test]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in test]
    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=len(names) + 1, min_size=128, max_size=160
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=chosen.lr, weight_decay=1e-4)
    seconds, rows, half = 0.0, [], len(names) // 2
    for number in (1, 2):
        task = Task(images, half * (number - 1), half)
        for epoch in range(epochs):
            start = measure.clock()
            train_epoch(model, optimizer, task, shown, (number, epoch))
            seconds += measure.clock() - start
            rows.append(
                {
                    "detector": "torchvision",
                    "task": number,
                    "epoch": epoch + 1,
                    "training s": seconds,
                    "mAP@A": mean_precision(model, test, truth),
                }
            )
            print(rows[-1], flush=True)
    return rows


def train_epoch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    shown: dict[int, Tensor],
    stream: tuple[int, int],
) -> None:
    """Show every image of a task once."""
    model.train()
    order = torch.randperm(len(task.images), generator=generator("torchvision", *stream)).tolist()
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        images = [shown[task.images[i]] for i in part]
        losses = model(images, [task.targets[i] for i in part])
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def trained_run(run: Path) -> list[dict[str, Any]]:
    """Return a row per task of a trained run: seconds from history.csv, mAP@A from scores.json."""
    rows, seconds = [], 0.0
    for number in (1, 2):
        folder = run / f"task{number}"
        with (folder / "history.csv").open() as handle:
            steps = list(csv.DictReader(handle))
        size = json.loads((folder / "task.json").read_text())["training"]["batch_size"]
        last = 0
        for row in steps:
            seconds += (int(row["step"]) - last) * size / float(row["images_per_s"])
            last = int(row["step"])
        scores = json.loads((folder / "scores.json").read_text())
        rows.append(
            {
                "detector": "CL-CLIP (wall time of its own run)",
                "task": number,
                "epoch": None,
                "training s": seconds,
                "mAP@A": scores["metrics"]["A"],
            }
        )
    return rows


def main() -> None:
    """Measure and write torchvision_detector.json."""
    chosen = measure.options(
        __doc__,
        run={"type": Path, "default": None, "metavar": "DIR"},
        epochs={"type": int, "default": 16, "help": "per task"},
        lr={"type": float, "default": 1e-3},
    )
    world = "shapes20_tiny" if chosen.quick else "shapes20"
    epochs, limit = (1, 8) if chosen.quick else (chosen.epochs, None)
    rows = fine_tune(chosen, worlds.world_folder(world), epochs, limit)
    best = max(rows, key=lambda row: row["mAP@A"])
    last = max((row for row in rows if row["task"] == 2), key=lambda row: row["mAP@A"])
    rows += trained_run(chosen.run) if chosen.run else []
    shown = [row | {"row": label} for label, row in (("best", best), ("best after task 2", last))]
    shown += [row for row in rows if row["detector"] != "torchvision"]
    measure.write("torchvision_detector", chosen, rows, shown=shown)


if __name__ == "__main__":
    main()
