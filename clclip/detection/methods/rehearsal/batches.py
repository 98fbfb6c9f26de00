"""What the methods with remembered objects add to a task: pasted batches in, memory out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clclip.core.task import current_classes, previous_classes, seen_classes, task_folders
from clclip.detection.inputs.dataset import (
    FeatureBatches,
    LabelledImage,
    Prepared,
    canvas_target,
    pinned,
)
from clclip.detection.inputs.online import OnlineFeatures, online_features
from clclip.detection.methods.fvit_ior.detector import IorFViT, ior_paste
from clclip.detection.methods.fvit_ior.objects import invert_classes, stored_statistics
from clclip.detection.methods.fvit_replay import ReplayFViT, abr_paste, choose_boxes
from clclip.detection.methods.rehearsal.memory import packed, quota, read_memory, trimmed
from clclip.detection.methods.rehearsal.pasting import Pasted
from clclip.training.seeds import generator

logger = logging.getLogger(__name__)

Paste = Callable[[Tensor, LabelledImage, torch.Generator], Pasted]
Stored = tuple[dict[str, Tensor], dict[str, str]]  # tensors and metadata of the weights file


class PastedBatches(FeatureBatches):
    """Batches whose training images show remembered objects; features are computed as it goes.

    Targets have "old_boxes" (M, 4) and "old_labels" (M,), columns of the seen classes, besides.

    Args:
        images: the labelled images.
        source: the tower over the image files.
        stream: what the random draws are seeded by: (experiment seed, task).
        augment: as of ``FeatureBatches``.
        paste: puts objects into an image, given a generator of its own.
        columns: class name -> column of the seen classes.
        fixed: an image shows the same objects in every epoch.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        source: OnlineFeatures,
        stream: tuple[int, int],
        augment: str,
        paste: Paste,
        columns: Mapping[str, int],
        *,
        fixed: bool,
    ) -> None:
        super().__init__(images, source, stream, augment)
        self.paste, self.columns, self.fixed = paste, columns, fixed

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
            kept = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
            targets.append({**target, "old_boxes": boxes[kept], "old_labels": labels[kept]})
            pixels.append(pasted.pixels)
            views.append(view)
        return Prepared(pinned(self.source.rendered(pixels, views)), views, targets, draws)

    def shown(self, epoch: int, index: int) -> tuple[LabelledImage, Pasted]:
        """Return an image's labels and pixels in ``epoch``, with what was pasted."""
        image = self.images[index]
        draws = generator(*self.stream, "paste", 0 if self.fixed else epoch, image.image_id)
        pasted = self.paste(self.source.pixels(image.image_id), image, draws)
        if pasted.replaced:
            none = torch.zeros(0, 4)
            image = replace(image, boxes=none, labels=image.labels[:0], ignore=none)
        height, width = pasted.pixels.shape[1:]
        return replace(image, height=height, width=width), pasted


@dataclass(frozen=True)
class Rehearsal:
    """Batches to train on, and what is stored beside the weights after training."""

    batches: FeatureBatches
    remember: Callable[[], Stored]


def open_rehearsal(
    model: nn.Module,
    task: Mapping[str, Any],
    task_file: Path,
    resources: Path,
    batches: FeatureBatches,
    device: torch.device,
) -> Rehearsal | None:
    """Return a task's rehearsal, or None for a method that remembers nothing.

    Args:
        model: the detector at the start of the task.
        task: the task file, and its path.
        task_file: as above.
        resources: folder of CLIPs.
        batches: the task's batches without remembered objects.
        device: where the model is.

    Raises:
        InputError: if an earlier task's memory is damaged.
    """
    if not isinstance(model, ReplayFViT | IorFViT):
        return None
    labels = task_file.parent / "train.json"
    source = batches.source
    if not isinstance(source, OnlineFeatures):
        source = online_features(task, resources, labels)
    previous = [path / "weights.safetensors" for path in task_folders(task_file)[:-1]]
    opened = _open_replay if isinstance(model, ReplayFViT) else _open_ior
    return opened(model, task, previous, source, batches, device)


def _open_replay(
    model: ReplayFViT,
    task: Mapping[str, Any],
    previous: list[Path],
    source: OnlineFeatures,
    batches: FeatureBatches,
    device: torch.device,
) -> Rehearsal:
    names, seen = current_classes(task), seen_classes(task)

    def remember() -> Stored:
        tensors, told = choose_boxes(model, batches, source, names, len(seen), device)
        return tensors, {"memory": told}

    if not previous:
        return Rehearsal(batches, remember)
    keep = quota(model.switches.memory, len(previous_classes(task)))
    crops = trimmed(read_memory(previous), keep)
    logger.info("memory: %d boxes of %d classes", len(crops), len({c.name for c in crops}))
    fill = (source.mean.flatten() * 255).cpu()
    pasted = PastedBatches(
        batches.images,
        source,
        batches.stream,
        batches.augment,
        lambda pixels, image, draws: abr_paste(pixels, image, crops, fill, draws),
        {name: k for k, name in enumerate(seen)},
        fixed=False,
    )
    return Rehearsal(pasted, remember)


def _open_ior(
    model: IorFViT,
    task: Mapping[str, Any],
    previous: list[Path],
    source: OnlineFeatures,
    batches: FeatureBatches,
    device: torch.device,
) -> Rehearsal:
    made = []
    seen = seen_classes(task)
    if previous:
        names = task["groups"][-2]
        made = invert_classes(model.teacher, names, seen, previous, source, batches.stream, device)

    def remember() -> Stored:
        tensors, told = packed(made)
        size = model.switches.invert_size
        count = len(current_classes(task))
        statistics = stored_statistics(batches.images, count, source, size, batches.stream)
        return {**tensors, **statistics}, {"memory": told}

    if not previous:
        return Rehearsal(batches, remember)
    crops = read_memory(previous) + made
    pasted = PastedBatches(
        batches.images,
        source,
        batches.stream,
        batches.augment,
        lambda pixels, image, draws: ior_paste(pixels, image, crops, source.size, draws),
        {name: k for k, name in enumerate(seen)},
        fixed=True,
    )
    return Rehearsal(pasted, remember)
