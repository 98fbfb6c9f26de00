"""Batches of frozen features with their labels, from a split file and a feature store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clclip.clip.features import FeatureStore
from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError
from clclip.core.machine import speed
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.inputs.repeats import repeat_factors, repeated_order
from clclip.detection.inputs.views import View, jittered, letterboxed
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.training.prefetch import Prefetcher
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
    data = read_stage_file(split, "sized boxes")
    ids = {category["name"]: category["id"] for category in data["categories"]}
    missing = [name for name in classes if name not in ids]
    if missing:
        raise InputError(f"no category {missing[0]!r}", split, "the split file of this task")
    column = {ids[name]: k for k, name in enumerate(classes)}
    known = set(ids.values())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in data["annotations"]:
        if annotation["category_id"] not in known:
            what = f"category_id {annotation['category_id']!r}"
            raise InputError(what, split, "the id of one of its categories")
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


class Prepared(NamedTuple):
    """A batch on the CPU."""

    content: Any  # stored features, or the canvases (B, 3, size, size) that a tower will read
    views: Sequence[View]
    targets: list[dict[str, Tensor]]
    draws: Sequence[torch.Generator]


class FeatureBatches:
    """Batches for training and prediction.

    Args:
        images: the labelled images.
        source: a feature store, or the tower run on the fly.
        stream: seeds of the random draws: (experiment seed, task).
        augment: "none", "flip" (mirrored at random) or "lsj" (large-scale jitter besides).
        repeat_threshold: classes in a smaller share of images are shown more often (0: none).
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        source: FeatureStore | OnlineFeatures,
        stream: tuple[int, int] = (0, 0),
        augment: str = "none",
        repeat_threshold: float = 0.0,
    ) -> None:
        self.images, self.source, self.stream = images, source, stream
        self.augment, self.repeat_threshold = augment, repeat_threshold
        self._prefetcher = Prefetcher(self.prepare, prefetch())

    def order(self, epoch: int) -> list[int]:
        """Return the order of the images in an epoch."""
        draws = generator(*self.stream, "order", epoch)
        if self.repeat_threshold:
            return repeated_order(self._factors, draws)
        return torch.randperm(len(self.images), generator=draws).tolist()

    @cached_property
    def _factors(self) -> Tensor:
        return repeat_factors([image.labels for image in self.images], self.repeat_threshold)

    def training(self, epoch: int, members: Sequence[int]) -> Batch:
        """Return the batch of the images ``members`` (indices) as seen in ``epoch``."""
        return self._finished(self._prefetcher.get(epoch, tuple(members)))

    def submit(self, epoch: int, members: Sequence[int]) -> None:
        """Prepare a later batch of ``training`` in a thread (``speed.prefetch``)."""
        self._prefetcher.submit(epoch, tuple(members))

    def close(self) -> None:
        """End the threads."""
        self._prefetcher.close()

    def plain(self, members: Sequence[int]) -> Batch:
        """Return the images ``members`` as they are, with targets."""
        images = [self.images[i] for i in members]
        return self._finished(self._read(images, [self.letterboxed(image) for image in images], []))

    def prepare(self, epoch: int, members: Sequence[int]) -> Prepared:
        """Prepare a training batch on the CPU; the result depends on the arguments alone."""
        images = [self.images[i] for i in members]
        draws = [generator(*self.stream, "image", epoch, image.image_id) for image in images]
        return self._read(images, list(map(self._view, images, draws)), draws)

    def letterboxed(self, image: LabelledImage) -> View:
        """Return the view of a whole image."""
        return letterboxed(image.width, image.height, self.source.size)

    def _view(self, image: LabelledImage, draws: torch.Generator) -> View:
        flip = self.augment != "none" and bool(torch.rand((), generator=draws) < 0.5)
        size = (image.width, image.height, self.source.size)
        return jittered(*size, flip, draws) if self.augment == "lsj" else letterboxed(*size, flip)

    def _read(
        self,
        images: Sequence[LabelledImage],
        views: Sequence[View],
        draws: Sequence[torch.Generator],
    ) -> Prepared:
        ids = [image.image_id for image in images]
        if isinstance(self.source, FeatureStore):
            content = self.source.read(ids, [view.flip for view in views])
        else:
            content = self.source.canvases(ids, views)
        targets = [canvas_target(image, view) for image, view in zip(images, views, strict=True)]
        return Prepared(pinned(content), views, targets, draws)

    def _finished(self, prepared: Prepared) -> Batch:
        content = prepared.content
        features = self.source.features(content) if isinstance(content, Tensor) else content  # type: ignore[union-attr]  # pixels come from OnlineFeatures
        extents = torch.tensor([[view.height, view.width] for view in prepared.views])
        side = self.source.size
        canvas = canvas_list(len(prepared.views), (side, side), extents)
        return Batch(features.taps, features.dense, canvas, prepared.targets, prepared.draws)


def prefetch() -> int:
    """Return how many batches are prepared ahead."""
    chosen = speed().prefetch
    return chosen if chosen is not None else 2 * torch.cuda.is_available()


def pinned(content: Any) -> Any:
    """Return features or canvases in pinned memory, for asynchronous copies to an accelerator."""
    if not torch.cuda.is_available():
        return content
    if isinstance(content, Tensor):
        return content.pin_memory()
    return type(content)(tuple(t.pin_memory() for t in content.taps), content.dense.pin_memory())


def canvas_target(image: LabelledImage, view: View) -> dict[str, Tensor]:
    """Return an image's labels on the canvas, without boxes cut to less than a pixel."""
    boxes, ignore = view.boxes(image.boxes), view.boxes(image.ignore)
    valid, valid_ignore = (((b[:, 2:] - b[:, :2]) >= 1).all(1) for b in (boxes, ignore))
    return {"boxes": boxes[valid], "labels": image.labels[valid], "ignore": ignore[valid_ignore]}
