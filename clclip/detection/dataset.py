"""Batches of frozen features with their labels, from a split file and a feature store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clclip.clip.features import FeatureStore
from clclip.detection.batch import Batch
from clclip.detection.proposals import canvas_list
from clclip.errors import InputError
from clclip.files import read_json
from clclip.training.seeds import generator


@dataclass(frozen=True)
class LabelledImage:
    """Labels of one image in ITS OWN pixels; ``labels`` index the current classes."""

    image_id: int
    width: int
    height: int
    boxes: Tensor  # (G, 4) xyxy
    labels: Tensor  # (G,)
    ignore: Tensor  # (I, 4) xyxy: crowds


def read_labels(split: Path, classes: Sequence[str]) -> list[LabelledImage]:
    """Read a split file of a task.

    Args:
        split: train.json or test.json of the task, COCO format.
        classes: class names; a label is an index into them.

    Raises:
        InputError: if a class is not among the file's categories.
    """
    data = read_json(split)
    ids = {category["name"]: category["id"] for category in data["categories"]}
    missing = [name for name in classes if name not in ids]
    if missing:
        raise InputError(f"no category {missing[0]!r}", split, "the split file of this task")
    column = {ids[name]: k for k, name in enumerate(classes)}
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in data["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    return [_labelled(image, by_image.get(image["id"], []), column) for image in data["images"]]


def _labelled(
    image: Mapping[str, Any], annotations: list[dict[str, Any]], column: Mapping[int, int]
) -> LabelledImage:
    boxes, labels, ignore = [], [], []
    for annotation in annotations:
        x, y, w, h = annotation["bbox"]
        corners = [x, y, x + w, y + h]
        if annotation.get("iscrowd") or annotation.get("ignore"):
            ignore.append(corners)
        elif annotation["category_id"] in column:
            boxes.append(corners)
            labels.append(column[annotation["category_id"]])
    return LabelledImage(
        image["id"],
        image["width"],
        image["height"],
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(ignore, dtype=torch.float32).reshape(-1, 4),
    )


class FeatureBatches:
    """Batches for training and prediction, read from a feature store.

    Args:
        images: the labelled images.
        store: frozen features of (at least) these images.
        stream: what the random draws are seeded by: (experiment seed, task).
        flip: flip images at random in training.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        store: FeatureStore,
        stream: tuple[int, int] = (0, 0),
        flip: bool = False,
    ) -> None:
        self.images, self.store, self.stream, self.flip = images, store, stream, flip

    def order(self, epoch: int) -> list[int]:
        """Return the order of the images in an epoch."""
        draws = generator(*self.stream, "order", epoch)
        return torch.randperm(len(self.images), generator=draws).tolist()

    def training(self, epoch: int, members: Sequence[int]) -> Batch:
        """Return the batch of the images ``members`` (indices) as seen in ``epoch``."""
        images = [self.images[i] for i in members]
        draws = [generator(*self.stream, "image", epoch, image.image_id) for image in images]
        flips = [self.flip and bool(torch.rand((), generator=d) < 0.5) for d in draws]
        return self._batch(images, flips, draws)

    def plain(self, members: Sequence[int]) -> Batch:
        """Return the images ``members`` unflipped, with targets."""
        images = [self.images[i] for i in members]
        return self._batch(images, [False] * len(images), [])

    def _batch(
        self,
        images: Sequence[LabelledImage],
        flips: Sequence[bool],
        draws: Sequence[torch.Generator],
    ) -> Batch:
        features = self.store.read([image.image_id for image in images], flips)
        targets = [
            _target(image, self.scale(image), flip)
            for image, flip in zip(images, flips, strict=True)
        ]
        extents = torch.tensor(
            [[round(i.height * self.scale(i)), round(i.width * self.scale(i))] for i in images]
        )
        side = self.store.size
        canvas = canvas_list(len(images), (side, side), extents)
        return Batch(features.taps, features.dense, canvas, targets, draws)

    def scale(self, image: LabelledImage) -> float:
        """Return canvas pixels per image pixel."""
        return self.store.size / max(image.width, image.height)


def _target(image: LabelledImage, scale: float, flip: bool) -> dict[str, Tensor]:
    """Return an image's labels on the canvas."""
    boxes, ignore = image.boxes * scale, image.ignore * scale
    if flip:
        boxes, ignore = (_flipped(b, image.width * scale) for b in (boxes, ignore))
    return {"boxes": boxes, "labels": image.labels, "ignore": ignore}


def _flipped(boxes: Tensor, width: float) -> Tensor:
    """Return boxes (N, 4) xyxy mirrored in content of ``width`` px."""
    return torch.stack(
        [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1
    )
