"""Files that ``predict`` writes for the diagnosis of forgetting.

``proposals.json``: {"iou": {annotation id: best IoU with a proposal of its class's path}}, objects
of seen classes, and where there are such "resting": [annotation ids], the objects on images where
that path proposed nothing. It distinguishes "no longer proposed" from "proposed, but relegated to
background".
Detectors return their proposals with their detections, so this costs next to nothing.

``probe.json``: activations of shared modules on a fixed set of images, from which the report
computes how far each has drifted since its own task, and how much the gates of different classes
overlap. Activations are stored as count sketches of ``WIDTH`` numbers (Charikar et al. 2002): the
length of a difference of sketches is, on average, that of the difference of the activations, and
equal activations have equal sketches. So no task ever loads an earlier one's model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from clclip.core.artifacts import Task
from clclip.core.files import write_json
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.region_maps import spatial_direction
from clclip.detection.methods.detector import Detector
from clclip.training.seeds import generator

IMAGES = 8  # of the probe set: the first of the test list
WIDTH = 64  # numbers of a sketch; the estimate's relative error is about sqrt(2 / (64 * IMAGES))
SAMPLED = 2**18  # activations of an image that enter a sketch at most


class ProposalOverlaps:
    """How well the proposals of each class's path cover the test objects.

    Args:
        paths: number of the detector's paths.
        task: its task.
        truth: the test split, COCO format.
    """

    def __init__(self, paths: int, task: Task, truth: Mapping[str, Any]) -> None:
        ids = {category["name"]: category["id"] for category in truth["categories"]}
        self.path_of = {
            ids[name]: min(number, paths - 1)
            for number, group in enumerate(task["groups"])
            for name in group
        }
        self.objects: dict[Any, list[Mapping[str, Any]]] = {}
        for item in truth["annotations"]:
            if item["category_id"] in self.path_of:
                self.objects.setdefault(item["image_id"], []).append(item)
        self.best: dict[str, float] = {}
        self.resting: list[str] = []

    def match(
        self,
        proposed: Sequence[Sequence[Tensor]],
        images: Sequence[Any],
        scales: Sequence[float],
    ) -> None:
        """Record the best overlap of every object of some images.

        Args:
            proposed: per path and image, the proposals (P, 4) on the canvas.
            images: ids of the images, in the order of the batch.
            scales: canvas pixels per image pixel.
        """
        for n, (image, scale) in enumerate(zip(images, scales, strict=True)):
            for item in self.objects.get(image, []):
                proposals = proposed[self.path_of[item["category_id"]]][n].float()
                x, y, w, h = item["bbox"]
                box = proposals.new_tensor([[x, y, x + w, y + h]]) * scale
                best = float(box_iou(box, proposals).max()) if len(proposals) else 0.0
                self.best[str(item["id"])] = round(best, 3)
                if not len(proposals):
                    self.resting.append(str(item["id"]))

    def write(self, path: Path) -> None:
        """Write proposals.json."""
        write_json(path, {"iou": self.best} | ({"resting": self.resting} if self.resting else {}))


@torch.no_grad()
def write_probe(path: Path, model: Detector, batch: Batch, images: Sequence[Any]) -> None:
    """Write probe.json.

    Args:
        path: the file.
        model: the detector after the task.
        batch: the probe images.
        images: their ids.
    """
    content = {
        "images": list(images),
        "sketches": [
            {name: sketch(name, value) for name, value in answers.items()}
            for answers in activations(model, batch)
        ],
        "overlap": map_overlap(model, batch),
    }
    write_json(path, content)


def activations(model: Detector, batch: Batch) -> list[dict[str, Tensor]]:
    """Return the activations of each path's modules, (B, ...); regions are a fixed 3 x 3 grid."""
    count, result, base = len(batch.canvas.image_sizes), [], None
    boxes = [_grid(extent).to(batch.dense.device) for extent in batch.canvas.image_sizes]
    for path in model.shared_paths():
        levels = path.levels(batch.taps, base)
        base = base or levels
        objectness, _ = path.rpn.head(list(levels.values()))
        regions = path.regions(levels, boxes)
        vectors = path.vectors(regions)
        answers = {
            "pyramid": _joined(list(levels.values())),
            "proposals": _joined(objectness),
            "region layers": regions.reshape(count, -1),
            "fully connected": vectors.reshape(count, -1),
            "boxes": path.box(vectors).reshape(count, -1),
        }
        own = {name: value.reshape(count, -1) for name, value in model.probes(vectors).items()}
        result.append(answers | own)
    return result


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Return maps (B, ...) as one row per image."""
    return torch.cat([value.flatten(1) for value in maps], dim=1)


def _grid(extent: tuple[int, int]) -> Tensor:
    """Return nine boxes (9, 4) xyxy that tile the image's extent (height, width)."""
    h, w = extent
    return torch.tensor(
        [
            [i * w / 3, j * h / 3, (i + 1) * w / 3, (j + 1) * h / 3]
            for j in range(3)
            for i in range(3)
        ]
    )


def sketch(name: str, values: Tensor) -> list[list[float]]:
    """Return count sketches (B, WIDTH) of values (B, N); the draws depend on name and N alone."""
    rows = values.float().cpu()
    draws = generator("probe", name, rows.shape[1])
    if rows.shape[1] > SAMPLED:
        rows = rows[:, torch.randint(rows.shape[1], (SAMPLED,), generator=draws)]
    size = rows.shape[1]
    bucket = torch.randint(WIDTH, (size,), generator=draws)
    sign = torch.randint(2, (size,), generator=draws) * 2.0 - 1.0
    sums = torch.zeros(len(rows), WIDTH).index_add_(1, bucket, rows * sign)
    return [[float(f"{value:.6g}") for value in row] for row in sums.tolist()]


@torch.no_grad()
def map_overlap(model: Detector, batch: Batch) -> dict[str, dict[str, float | None]] | None:
    """Return how alike the maps of different classes are, before and after the gate.

    Returns:
        name of the maps -> "previous", "between", "current": the mean squared cosine of the
        mean-free maps of two classes (0: orthogonal), both previous, one of each, both current;
        None for a detector without such maps.
    """
    count, start = len(model.text), model.previous
    result: dict[str, dict[str, float | None]] = {}
    for name, maps in model.class_maps(batch).items():
        total = torch.zeros(count, count)
        for n, (h, w) in enumerate(batch.canvas.image_sizes):
            rows, columns = (max(1, round(side / model.stride)) for side in (h, w))
            unit = spatial_direction(maps[n, :, :rows, :columns].float())
            total += (unit @ unit.T).square().cpu() / len(maps)
        result[name] = {
            "previous": _mean_pairs(total[:start, :start]),
            "between": float(total[:start, start:].mean()) if 0 < start else None,
            "current": _mean_pairs(total[start:, start:]),
        }
    return result or None


def _mean_pairs(square: Tensor) -> float | None:
    """Return the mean beside the diagonal, None without two classes."""
    count = len(square)
    if count < 2:
        return None
    return float((square.sum() - square.diagonal().sum()) / (count * (count - 1)))
