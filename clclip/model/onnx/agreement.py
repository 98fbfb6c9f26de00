"""Whether an ONNX file of a detector finds what torch finds, on pictures made for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from clclip.detection.methods.clclip.pathways import Pathways
from clclip.detection.methods.detector import Detector
from clclip.model.use.detection import DetectionModel

SAME_BOX, SAME_SCORE = 0.99, 1e-3

Rows = tuple[Tensor, Tensor, Tensor]
"""Boxes (N, 4), scores (N,) and classes (N,)."""


def probes(side: int) -> list[np.ndarray]:
    """Return pictures to compare on: shapes on noise, of several sizes, and a blank one."""
    generator = np.random.default_rng(0)
    pictures = []
    for height, width in ((side, side), (side, 2 * side // 3), (side + 40, side + 90)):
        picture = generator.integers(60, 200, (height, width, 3), dtype=np.uint8)
        for _ in range(8):
            top, left = generator.integers(0, height - 12), generator.integers(0, width - 12)
            tall, wide = generator.integers(10, max(11, side // 3), 2)
            picture[top : top + tall, left : left + wide] = generator.integers(0, 256, 3)
        pictures.append(picture)
    return [*pictures, np.full((side, side, 3), 127, dtype=np.uint8)]


def canvases(pictures: Sequence[np.ndarray], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``images`` and ``sizes`` of pictures (H, W, 3): the steps of the metadata."""
    images = np.zeros((len(pictures), 3, side, side), dtype=np.float32)
    sizes = np.array([picture.shape[:2] for picture in pictures], dtype=np.int64)
    for image, picture, (height, width) in zip(images, pictures, sizes.tolist(), strict=True):
        scale = side / max(height, width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        for plane, channel in zip(image, picture.transpose(2, 0, 1), strict=True):
            whole = Image.fromarray(channel.astype(np.float32))
            plane[:rows, :columns] = whole.resize((columns, rows), Image.Resampling.BILINEAR)
    return images, sizes


def agreement(path: Path, model: DetectionModel, pictures: Sequence[np.ndarray]) -> float:
    """Return the share of detections, of the file and of torch, that the other one has as well.

    The other has it if one of its own has the same class, an overlap of ``SAME_BOX`` and a score
    within ``SAME_SCORE``.

    Args:
        path: the file.
        model: the detector; in float32 it scores every pair of a region and a class, as the file
            does.
        pictures: (H, W, 3) uint8.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images, sizes = canvases(pictures, model.features.size)
    outputs = session.run(None, {"images": images, "sizes": sizes})
    *rows, image = (torch.from_numpy(output) for output in outputs)
    shared = total = 0
    with every_pair(model.detector), in_float32(model):
        answers = model([*pictures], threshold=0.0)
    assert isinstance(answers, list)  # of several pictures
    for number, answer in enumerate(answers):
        boxes, scores, classes = (part[image == number] for part in rows)
        ours = torch.from_numpy(answer.boxes), torch.from_numpy(answer.scores).float()
        labels = torch.from_numpy(answer.labels)
        pairs = same((boxes, scores, classes), (*ours, labels))
        shared += int(pairs.any(1).sum()) + int(pairs.any(0).sum())
        total += sum(pairs.shape)
    return shared / total if total else 1.0


def same(one: Rows, other: Rows) -> Tensor:
    """Return which detections (N,) and (M,) of an image are the same: bool (N, M)."""
    near = box_iou(one[0], other[0]) >= SAME_BOX
    scores = (one[1][:, None] - other[1][None]).abs() <= SAME_SCORE
    return near & scores & (one[2][:, None] == other[2][None])


@contextlib.contextmanager
def in_float32(model: DetectionModel) -> Iterator[None]:
    """Detect without autocast: one that was trained in bf16 detects in it, and no file does."""
    plan = model.plan
    try:
        model.plan = {**plan, "training": plan["training"] | {"precision": "fp32"}}
        yield
    finally:
        model.plan = plan


@contextlib.contextmanager
def every_pair(detector: Detector) -> Iterator[None]:
    """Score every pair of a region and a class (``route: all``)."""
    networks = [module for module in detector.modules() if isinstance(module, Pathways)]
    usual = [network.options for network in networks]
    try:
        for network in networks:
            network.options = network.options.model_copy(update={"route": "all"})
        yield
    finally:
        for network, options in zip(networks, usual, strict=True):
            network.options = options
