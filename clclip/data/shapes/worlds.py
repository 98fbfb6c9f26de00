"""The generated worlds of the embedded benchmark, as COCO-format detection data or labelled images.

``world_spec`` is what the plan needs and costs nothing; ``generate`` draws the images. Neither
imports torch. Names order classes shape by shape, four colours each: 20 classes are five shapes, 40
are ten, 80 are twenty.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clclip.core.errors import InputError, nearest
from clclip.core.files import make_folder, write_json
from clclip.data.shapes.objects import (
    background,
    class_names,
    coverage,
    jittered_colour,
    paste,
    split_name,
)
from clclip.data.shapes.random import Draws
from clclip.data.shapes.renditions import draw_style, rendition

logger = logging.getLogger(__name__)

SCENE_SIDE = 128
OBJECT_SIDE = (20, 52)
OBJECTS = (1, 5)
_GAP = 2  # pixels between the boxes of two objects
_TRIES = 40  # placements tried before an object is left out of a crowded scene


@dataclass(frozen=True)
class World:
    """How many classes and images a world has; classification counts are per class.

    ``version`` is raised whenever a drawn byte of the world changes: ids and caches follow it.
    """

    kind: str
    classes: int
    train: int
    test: int
    side: int
    version: str = "1"


WORLDS: dict[str, World] = {
    "shapes20": World("detection", 20, 500, 300, SCENE_SIDE),
    "shapes20_half": World("detection", 20, 250, 300, SCENE_SIDE),
    "shapes20_tiny": World("detection", 20, 60, 40, SCENE_SIDE),
    "shapes80": World("detection", 80, 1600, 600, SCENE_SIDE),
    "shapes_cil": World("classification", 40, 30, 20, 64, version="2"),
    "shapes_cil_tiny": World("classification", 40, 6, 4, 64, version="2"),
}


def world_spec(world: str) -> dict[str, Any]:
    """Describe a world without drawing it.

    Returns:
        {"data_id", "version", "kind", "classes": [...], "counts": {split: images}}.

    Raises:
        InputError: if there is no such world.
    """
    found = WORLDS.get(world)
    if found is None:
        expected = f"one of {', '.join(WORLDS)}{nearest(world, WORLDS)}"
        raise InputError(f"unknown world {world!r}", "data", expected)
    each = found.classes if found.kind == "classification" else 1
    return {
        "data_id": f"{world}-v{found.version}",
        "version": found.version,
        "kind": found.kind,
        "classes": class_names(found.classes),
        "counts": {"train": found.train * each, "test": found.test * each},
    }


def scene(classes: list[str], draws: Draws) -> tuple[np.ndarray, list[tuple[str, list[int]]]]:
    """Draw one detection scene of 1-5 objects that do not overlap.

    Returns:
        The image, uint8 (128, 128, 3), and (class, [x, y, width, height]) per object: the tight box
        of its pixels.
    """
    image = background(SCENE_SIDE, SCENE_SIDE, draws)
    objects: list[tuple[str, list[int]]] = []
    for _ in range(draws.integer(*OBJECTS)):
        name = draws.choice(classes)
        colour, shape = split_name(name)
        cells = coverage(shape, draws.integer(*OBJECT_SIDE), draws.integer(-20, 20))
        box = _free_box(cells.shape, [box for _, box in objects], draws)
        if box is None:
            continue
        paste(image, cells, jittered_colour(colour, draws), box[0], box[1])
        objects.append((name, box))
    return image.astype(np.uint8), objects


def _free_box(shape: tuple[int, ...], taken: list[list[int]], draws: Draws) -> list[int] | None:
    """Return a place [x, y, w, h] at least ``_GAP`` pixels off the boxes ``taken``, or None."""
    height, width = shape
    for _ in range(_TRIES):
        x, y = draws.integer(0, SCENE_SIDE - width), draws.integer(0, SCENE_SIDE - height)
        apart = (
            x + width + _GAP <= bx
            or bx + bw + _GAP <= x
            or y + height + _GAP <= by
            or by + bh + _GAP <= y
            for bx, by, bw, bh in taken
        )
        if all(apart):
            return [x, y, width, height]
    return None


def generate(world: str, out: Path) -> None:
    """Draw a world: ``images/*.png``, ``train.json``, ``test.json`` and, last, ``index.json``.

    Raises:
        InputError: if there is no such world.
    """
    spec = world_spec(world)
    make_folder(out / "images")
    for split in ("train", "test"):
        build = _detection if spec["kind"] == "detection" else _classification
        write_json(out / f"{split}.json", build(world, split, out))
        logger.info("%s: %d %s images drawn", world, spec["counts"][split], split)
    index = {
        "id": spec["data_id"],
        "format": "shapes",
        "version": spec["version"],
        "kind": spec["kind"],
        "root": "images",
        "splits": {"train": "train.json", "test": "test.json"},
        "classes": spec["classes"],
        "counts": spec["counts"],
        "skipped": [],
        "warnings": [],
    }
    write_json(out / "index.json", index, indent=1)


def _detection(world: str, split: str, out: Path) -> dict[str, Any]:
    """Draw the scenes of a split and return it in COCO format, category ids from 1."""
    spec = world_spec(world)
    ids = {name: k + 1 for k, name in enumerate(spec["classes"])}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, spec["counts"][split] + 1):
        pixels, objects = scene(spec["classes"], Draws(world, spec["version"], split, number))
        image_id = number if split == "train" else 100_000 + number
        file_name = f"{split}_{number:05d}.png"
        _save(pixels, out / "images" / file_name)
        images.append(
            {"id": image_id, "file_name": file_name, "width": SCENE_SIDE, "height": SCENE_SIDE}
        )
        for name, box in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[name],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": k, "name": name} for name, k in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _classification(world: str, split: str, out: Path) -> dict[str, Any]:
    """Draw the labelled images of a split, class by class."""
    spec, side = world_spec(world), WORLDS[world].side
    each = spec["counts"][split] // len(spec["classes"])
    images: list[dict[str, Any]] = []
    for name in spec["classes"]:
        for number in range(1, each + 1):
            draws = Draws(world, spec["version"], split, name, number)
            file_name = f"{split}_{name.replace(' ', '_')}_{number:03d}.png"
            _save(rendition(name, side, draw_style(draws), draws), out / "images" / file_name)
            image_id = len(images) + (1 if split == "train" else 100_001)
            images.append({"id": image_id, "file_name": file_name, "label": name})
    return {"classes": spec["classes"], "images": images}


def _save(pixels: np.ndarray, path: Path) -> None:
    """Write a PNG; fast compression, because the noise does not compress anyway."""
    Image.fromarray(pixels).save(path, compress_level=1)
