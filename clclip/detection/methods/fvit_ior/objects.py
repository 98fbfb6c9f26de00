"""The objects of ``fvit_ior``: what a task stores for their inversion, and the inversion itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import box_iou

from clclip.core.errors import InputError
from clclip.detection.inputs.dataset import LabelledImage
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.inputs.views import View, render
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.methods.fvit_ior.inversion import (
    Recipe,
    TokenStatistics,
    draw_box,
    invert,
    merged_statistics,
    ratio_histogram,
    token_statistics,
)
from clclip.detection.methods.rehearsal.memory import Crop, cut
from clclip.detection.methods.two_stage import TwoStageDetector
from clclip.detection.options.fvit import IorOptions
from clclip.detection.weights import MEMORY, read_weights
from clclip.training.seeds import generator

logger = logging.getLogger(__name__)

CHUNK = 64  # images per pass for the statistics
ACCEPT_SCORE, ACCEPT_OVERLAP = 0.3, 0.5


def stored_statistics(
    images: Sequence[LabelledImage],
    classes: int,
    source: OnlineFeatures,
    size: int,
    stream: tuple[int, int],
) -> dict[str, Tensor]:
    """Return what a later inversion of this task's classes needs, 100 kB and no picture.

    Args:
        images: the task's labelled images.
        classes: number of current classes.
        source: the tower over them.
        size: canvas of the inversion; tokens are those of one random piece of that size per image,
            because token statistics differ from canvas to canvas.
        stream: what the pieces are seeded by.

    Raises:
        InputError: if the size does not fit the tower.
    """
    if size % source.stride:
        expected = f"a multiple of the patch, {source.stride}"
        raise InputError(f"canvas of {size} pixels", "switches.invert_size", expected)
    boxes = torch.cat([image.boxes for image in images])
    labels = torch.cat([image.labels for image in images])
    edges, counts = zip(*(ratio_histogram(boxes[labels == k]) for k in range(classes)), strict=True)
    parts = []
    for start in range(0, len(images), CHUNK):
        pieces = [_piece(image, source, size, stream) for image in images[start : start + CHUNK]]
        parts.append(token_statistics(source.tower(torch.stack(pieces).to(source.device)).taps))
    total = merged_statistics(parts)
    return {
        f"{MEMORY}ratio_edges": torch.stack(edges),
        f"{MEMORY}ratio_counts": torch.stack(counts),
        f"{MEMORY}token_count": torch.tensor(total.count),
        f"{MEMORY}token_mean": total.mean.cpu(),
        f"{MEMORY}token_variance": total.variance.cpu(),
    }


def _piece(
    image: LabelledImage, source: OnlineFeatures, size: int, stream: tuple[int, int]
) -> Tensor:
    """Return a random piece (3, size, size) of an image at the scale of training."""
    draws = generator(*stream, "piece", image.image_id)
    scale = source.size / max(image.width, image.height)
    sides = [max(1, round(side * scale)) for side in (image.height, image.width)]
    top, left = (int(torch.randint(max(0, s - size) + 1, (), generator=draws)) for s in sides)
    view = View(scale, left, top, min(size, sides[0]), min(size, sides[1]))
    return render(source.pixels(image.image_id), view, size, source.mean, source.std)


def read_statistics(paths: Sequence[Path]) -> tuple[TokenStatistics, Tensor, Tensor]:
    """Return the token statistics of all tasks, and edges and counts (K, 50) of the last one.

    Raises:
        InputError: if a weights file has none: it is of another method.
    """
    parts = []
    edges = counts = torch.zeros(0)
    for path in paths:
        tensors, _ = read_weights(path)
        try:
            mean, variance = (tensors[f"{MEMORY}token_{name}"] for name in ("mean", "variance"))
            parts.append(TokenStatistics(int(tensors[f"{MEMORY}token_count"]), mean, variance))
            edges, counts = (tensors[f"{MEMORY}ratio_{name}"] for name in ("edges", "counts"))
        except KeyError as error:
            raise InputError(f"no {error.args[0]}", path, "weights made by fvit_ior") from None
    return merged_statistics(parts), edges, counts


def invert_classes(
    teacher: TwoStageDetector,
    names: Sequence[str],
    seen: Sequence[str],
    previous: Sequence[Path],
    source: OnlineFeatures,
    stream: tuple[int, int],
) -> list[Crop]:
    """Return inverted objects of some previous classes.

    Args:
        teacher: the model after the previous task.
        names: the previous task's classes.
        seen: all seen classes, whose order is the teacher's columns.
        previous: weights files of the tasks before.
        source: the tower.
        stream: (experiment seed, task).
    """
    s, device = teacher.options, teacher.device
    assert isinstance(s, IorOptions)
    statistics, edges, counts = read_statistics(previous)
    statistics = TokenStatistics(
        statistics.count, statistics.mean.to(device), statistics.variance.to(device)
    )
    recipe = Recipe(steps=s.invert_steps, size=s.invert_size)
    wanted = [k for _ in range(s.invert_objects) for k in range(len(names))]  # round robin
    start, crops, accepted = time.monotonic(), [], 0
    for first in range(0, len(wanted), recipe.batch):
        part = wanted[first : first + recipe.batch]
        draws = generator(*stream, "inversion", first)
        boxes = torch.stack([draw_box(edges[k], counts[k], recipe.size, draws) for k in part])
        columns = torch.tensor([seen.index(names[k]) for k in part])
        images, loss = invert(
            teacher,
            lambda x: source.tower.with_gradient(x).taps,
            source.mean,
            source.std,
            boxes.to(device),
            columns.to(device),
            statistics,
            recipe,
            draws,
        )
        pixels = (images * 255).round().to(torch.uint8).cpu()
        good = recognised(teacher, source, pixels, boxes, columns)
        accepted += sum(good)
        for n, k in enumerate(part):
            if good[n] or not s.invert_accept:
                crops.append(cut(pixels[n], boxes[n], names[k], None))
        done, seconds = first + len(part), time.monotonic() - start
        logger.info(
            "inverted %d/%d objects, %d detected again, loss %.2f, %.0f s left",
            done,
            len(wanted),
            accepted,
            loss,
            seconds / done * (len(wanted) - done),
        )
    return crops


@torch.no_grad()
def recognised(
    teacher: TwoStageDetector,
    source: OnlineFeatures,
    pixels: Tensor,
    boxes: Tensor,
    columns: Tensor,
) -> list[bool]:
    """Tell which images (B, 3, S, S) uint8 the teacher detects as meant: score 0.3, IoU 0.5."""
    size = pixels.shape[-1]
    features = source.tower(((pixels.float() / 255 - source.mean) / source.std).to(source.device))
    canvas = canvas_list(len(pixels), (size, size), torch.full((len(pixels), 2), size))
    detections = teacher.detect(Batch(features.taps, features.dense, canvas).to(teacher.device))
    answers = []
    for n, image in enumerate(detections):
        own = (image["labels"].cpu() == columns[n]) & (image["scores"].cpu() >= ACCEPT_SCORE)
        overlap = box_iou(image["boxes"].cpu()[own], boxes[n][None])
        answers.append(bool((overlap >= ACCEPT_OVERLAP).any()))
    return answers
