"""What the methods with remembered objects share: batches whose images show old objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from clclip.core.task import task_folders
from clclip.detection.inputs.dataset import (
    FeatureBatches,
    LabelledImage,
    Prepared,
    canvas_target,
    pinned,
)
from clclip.detection.inputs.online import OnlineFeatures, online_features
from clclip.detection.methods.detector import RehearsalTask
from clclip.detection.methods.rehearsal.pasting import Pasted
from clclip.training.seeds import generator

Paste = Callable[[Tensor, LabelledImage, torch.Generator], Pasted]


class PastedBatches(FeatureBatches):
    """Batches whose training images show remembered objects; features are computed as it goes.

    Targets have "old_boxes" (M, 4) and "old_labels" (M,), columns of the seen classes, besides.

    Args:
        plain: the task's batches without such objects.
        source: the tower over the image files.
        paste: puts objects into an image, given a generator of its own.
        seen: the seen classes, in the order of the columns.
        fixed: an image shows the same objects in every epoch.
    """

    def __init__(
        self,
        plain: FeatureBatches,
        source: OnlineFeatures,
        paste: Paste,
        seen: Sequence[str],
        *,
        fixed: bool,
    ) -> None:
        super().__init__(plain.images, source, plain.stream, plain.augment, plain.repeat_threshold)
        self.paste, self.fixed = paste, fixed
        self.columns = {name: k for k, name in enumerate(seen)}

    def prepare(self, epoch: int, members: Sequence[int]) -> Prepared:
        """Do for a training batch what needs no accelerator; depends on its arguments alone."""
        pixels, views, targets, draws = [], [], [], []
        for i in members:
            image, pasted = self.shown(epoch, i)
            draws.append(generator(*self.stream, "image", epoch, image.image_id))
            view = self._view(image, draws[-1])
            target = canvas_target(image, view)
            boxes = view.boxes(pasted.boxes)
            labels = torch.tensor([self.columns[name] for name in pasted.names], dtype=torch.int64)
            valid = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
            targets.append({**target, "old_boxes": boxes[valid], "old_labels": labels[valid]})
            pixels.append(pasted.pixels)
            views.append(view)
        return Prepared(pinned(self.source.rendered(pixels, views)), views, targets, draws)  # type: ignore[union-attr]  # from pixels

    def shown(self, epoch: int, index: int) -> tuple[LabelledImage, Pasted]:
        """Return an image's labels and pixels in ``epoch``, with what was pasted."""
        image = self.images[index]
        draws = generator(*self.stream, "paste", 0 if self.fixed else epoch, image.image_id)
        pasted = self.paste(self.source.pixels(image.image_id), image, draws)  # type: ignore[union-attr]  # from pixels
        if pasted.replaced:
            none = torch.zeros(0, 4)
            image = replace(image, boxes=none, labels=image.labels[:0], ignore=none)
        height, width = pasted.pixels.shape[1:]
        return replace(image, height=height, width=width), pasted


def pixel_source(task: RehearsalTask) -> OnlineFeatures:
    """Return the tower over the task's image files, whether features are cached or not."""
    source = task.batches.source
    if isinstance(source, OnlineFeatures):
        return source
    return online_features(task.task, task.resources, task.task_file.parent / "train.json")


def earlier_weights(task: RehearsalTask) -> list[Path]:
    """Return the weights files of the tasks before."""
    return [path / "weights.safetensors" for path in task_folders(task.task_file)[:-1]]
