"""Which dense mode of a tower is aligned with text, measured on the labelled boxes of a data set.

The measure is the zero-shot class of a ground-truth box: the mean of the unit-norm dense tokens
inside it, each weighted by how much of its cell the box covers, compared by cosine with the texts
of all classes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clclip.clip.canvas import canvas_scale, letterbox, to_tensor
from clclip.clip.dense import MODES, dense_modes
from clclip.clip.features import split_images
from clclip.clip.load import load_clip
from clclip.clip.text import text_embeddings
from clclip.clip.tower import FrozenTower
from clclip.clip.trunk import trunk_of
from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.core.task import has_boxes
from clclip.data.images import load_rgb

logger = logging.getLogger(__name__)

_BATCH = 32


def box_means(dense: Tensor, boxes: Tensor, stride: int) -> Tensor:
    """Return the mean token of each box, cells weighted by the share that the box covers.

    Args:
        dense: (d, h, w) of one image.
        boxes: (G, 4) xyxy in canvas pixels.
        stride: canvas pixels per token.

    Returns:
        (G, d); not normalised.
    """
    _, height, width = dense.shape

    def covered(low: Tensor, high: Tensor, count: int) -> Tensor:
        edge = torch.arange(count, device=dense.device) * float(stride)
        overlap = torch.minimum(edge + stride, high[:, None]) - torch.maximum(edge, low[:, None])
        return overlap.clamp(min=0)  # (G, count)

    across, down = (
        covered(boxes[:, 0], boxes[:, 2], width),
        covered(boxes[:, 1], boxes[:, 3], height),
    )
    total = (across.sum(1) * down.sum(1)).clamp(min=1e-9)
    return torch.einsum("dhw,gh,gw->gd", dense, down, across) / total[:, None]


def zero_shot(
    data: Path, clip_dir: Path, images: int | None = None, dense: str | None = None
) -> dict[str, Any]:
    """Measure the zero-shot class of the ground-truth boxes of the test split.

    Args:
        data: folder of an index.json of detection data.
        clip_dir: folder that ``fetch_clip`` wrote.
        images: measure on the first so many images; all by default.
        dense: mode; by default the one that ``probe_dense`` would recommend on these images.

    Returns:
        {"clip", "data", "dense", "accuracy" (percent), "boxes", "per_class": {name: percent or
        None}}.
    """
    modes = _measured(data, clip_dir, images, None if dense is None else [dense])
    best = max(modes, key=lambda mode: modes[mode]["accuracy"])
    names = {"clip": clip_dir.name, "data": data.name, "dense": best}
    return {**names, **modes[best]}


def probe_dense(data: Path, clip_dir: Path, images: int | None = 50) -> dict[str, Any]:
    """Measure every dense mode of a tower and recommend one.

    Returns:
        {"clip", "data", "boxes", "chance", "modes": {mode: percent}, "recommended": mode}.
    """
    measured = _measured(data, clip_dir, images, None)
    modes = {mode: result["accuracy"] for mode, result in measured.items()}
    best = max(modes, key=lambda mode: modes[mode])
    first = measured[best]
    return {
        "clip": clip_dir.name,
        "data": data.name,
        "boxes": first["boxes"],
        "chance": round(100.0 / len(first["per_class"]), 2),
        "modes": modes,
        "recommended": best,
    }


def _measured(
    data: Path, clip_dir: Path, images: int | None, modes: list[str] | None
) -> dict[str, dict[str, Any]]:
    """Return mode -> {"accuracy", "boxes", "per_class"} over the test split."""
    clip = load_clip(clip_dir)
    available = dense_modes(trunk_of(clip.model.visual, clip.name))
    tower = FrozenTower(clip, modes[0] if modes else available[0])
    chosen = modes or list(available)
    root, entries = split_images(data, "test")
    names, truth = _ground_truth(data)
    text = text_embeddings(clip, names)
    entries = [entry for entry in entries if entry["id"] in truth][:images]
    if not entries:
        raise InputError(
            "no labelled image", data, "a detection data set with boxes in its test split"
        )
    guesses: dict[str, list[Tensor]] = {mode: [] for mode in chosen}
    for first in range(0, len(entries), _BATCH):
        part = entries[first : first + _BATCH]
        size = clip.image_size // clip.patch * clip.patch
        canvases = torch.stack(
            [
                letterbox(
                    to_tensor(load_rgb(root / e["file_name"], e.get("exif", True))),
                    size,
                    clip.mean,
                    clip.std,
                )
                for e in part
            ]
        )
        for mode, features in tower.all_modes(canvases).items():
            if mode in guesses:
                for entry, dense in zip(part, features.dense, strict=True):
                    scale = canvas_scale(entry["width"], entry["height"], size)
                    means = box_means(dense, truth[entry["id"]][0] * scale, clip.patch)
                    guesses[mode].append((means @ text.T).argmax(dim=1))
        logger.info("probed %d/%d images", first + len(part), len(entries))
    labels = torch.cat([truth[entry["id"]][1] for entry in entries])
    return {mode: _accuracy(torch.cat(parts), labels, names) for mode, parts in guesses.items()}


def _accuracy(predicted: Tensor, labels: Tensor, names: list[str]) -> dict[str, Any]:
    """Return the accuracy over boxes and per class, in percent."""
    right = (predicted == labels).float()
    per_class = {
        name: round(100 * right[labels == k].mean().item(), 2) if (labels == k).any() else None
        for k, name in enumerate(names)
    }
    return {
        "accuracy": round(100 * right.mean().item(), 2),
        "boxes": len(labels),
        "per_class": per_class,
    }


def _ground_truth(data: Path) -> tuple[list[str], dict[int, tuple[Tensor, Tensor]]]:
    """Return class names and image id -> (xyxy boxes in pixels, labels); crowds left out."""
    index = read_json(data / "index.json")
    if not has_boxes(index):
        raise InputError(f"{index.get('kind')} data", data / "index.json", "a detection data set")
    labelled = read_json(data / index["splits"]["test"])
    names = [category["name"] for category in labelled["categories"]]
    column = {category["id"]: k for k, category in enumerate(labelled["categories"])}
    gathered: dict[int, list[tuple[list[float], int]]] = {}
    for annotation in labelled["annotations"]:
        if annotation.get("iscrowd") or annotation.get("ignore"):
            continue
        x, y, w, h = annotation["bbox"]
        entry = ([x, y, x + w, y + h], column[annotation["category_id"]])
        gathered.setdefault(annotation["image_id"], []).append(entry)
    truth = {
        image: (
            torch.tensor([b for b, _ in g], dtype=torch.float32),
            torch.tensor([k for _, k in g]),
        )
        for image, g in gathered.items()
    }
    return names, truth


__all__ = ["MODES", "box_means", "probe_dense", "zero_shot"]
