"""Remembered objects: small pictures of old classes, stored beside the weights of a task.

In ``weights.safetensors`` they are uint8 tensors under ``memory.``, which no network loads; the
metadata key ``memory`` says, per picture, its class and the image it was cut from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from clclip.core.errors import InputError
from clclip.detection.weights import MEMORY, read_weights


@dataclass(frozen=True)
class Crop:
    """One remembered object."""

    pixels: Tensor  # (3, h, w) uint8
    name: str  # its class
    image: int | None  # id of the image it was cut from; None: it was made by inversion


def cut(pixels: Tensor, box: Tensor, name: str, image: int | None) -> Crop:
    """Return the object in ``box`` (4,) xyxy of an image (3, H, W), whole pixels."""
    height, width = pixels.shape[1:]
    x0, y0 = (int(v) for v in box[:2].floor().clamp(min=0))
    x1, y1 = min(width, int(box[2].ceil())), min(height, int(box[3].ceil()))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    return Crop(pixels[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].clone(), name, image)


def quota(total: int, classes: int) -> int:
    """Return how many boxes a class may keep: ceil(total / classes seen so far) (ABR)."""
    return math.ceil(total / classes)


def nearest_to_mean(vectors: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` rows (N, D) nearest by cosine to their mean, best first.

    ABR divides by the norm of the whole class array, which makes its ranking close to "strongest
    activation"; here every row is normalised (the adapted form of its section 2.7).
    """
    unit = functional.normalize(vectors.float(), dim=1)
    nearness = unit @ functional.normalize(unit.mean(0), dim=0)
    return nearness.argsort(descending=True, stable=True)[:count]


def trimmed(crops: Iterable[Crop], count: int) -> list[Crop]:
    """Return at most the first ``count`` crops of every class, in order."""
    result: list[Crop] = []
    taken: dict[str, int] = {}
    for crop in crops:
        if taken.setdefault(crop.name, 0) < count:
            taken[crop.name] += 1
            result.append(crop)
    return result


def packed(crops: Sequence[Crop]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors and the metadata text that store crops, best first within a class."""
    sizes = torch.tensor([crop.pixels.shape[1:] for crop in crops], dtype=torch.int32).view(-1, 2)
    flat = [crop.pixels.flatten() for crop in crops]
    pixels = torch.cat(flat) if flat else torch.zeros(0, dtype=torch.uint8)
    notes = json.dumps([{"class": crop.name, "image": crop.image} for crop in crops])
    return {f"{MEMORY}pixels": pixels, f"{MEMORY}sizes": sizes}, notes


def unpacked(tensors: Mapping[str, Tensor], notes: str, where: object) -> list[Crop]:
    """Return the crops that a weights file stores.

    Raises:
        InputError: if tensors and metadata do not belong together.
    """
    if f"{MEMORY}sizes" not in tensors:
        return []
    try:
        entries = json.loads(notes)
        sizes = tensors[f"{MEMORY}sizes"].tolist()
        flat = tensors[f"{MEMORY}pixels"].split([3 * h * w for h, w in sizes])
        return [
            Crop(pixels.view(3, h, w), note["class"], note["image"])
            for pixels, (h, w), note in zip(flat, sizes, entries, strict=True)
        ]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        expected = "the memory that a training run stored"
        raise InputError(f"damaged memory ({error})", where, expected) from None


def read_memory(paths: Iterable[Path]) -> list[Crop]:
    """Return the crops of several weights files, in order.

    Raises:
        InputError: if a file is missing or damaged.
    """
    crops: list[Crop] = []
    for path in paths:
        tensors, metadata = read_weights(path)
        crops += unpacked(tensors, metadata.get("memory", "[]"), path)
    return crops
