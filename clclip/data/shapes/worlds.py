"""The generated worlds of the embedded benchmark, as COCO-format detection data or labelled images.

``world_spec`` is what the plan needs and costs nothing; ``generate`` draws the images. Neither
imports torch. Names order classes shape by shape, four colours each: 20 classes are five shapes, 40
are ten, 80 are twenty.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clclip.core.errors import InputError, nearest
from clclip.core.files import make_folder, write_json
from clclip.core.task import has_boxes
from clclip.data.shapes.clutter import cluttered_scene, place_of
from clclip.data.shapes.difficulty import Difficulty
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
    ``difficulty`` is that of a cluttered world; None: the easy scenes of ``scene``. ``draw`` counts
    worlds that differ in chance alone; the shipped ones are draw 0.
    """

    name: str
    kind: str
    classes: int
    train: int
    test: int
    side: int
    version: str = "1"
    difficulty: Difficulty | None = None
    draw: int = 0

    @property
    def data_id(self) -> str:
        """Id of the world's data: worlds with other bytes have another."""
        shipped = WORLDS[self.name]
        if (self.draw, self.difficulty) == (shipped.draw, shipped.difficulty):
            return f"{self.name}-v{self.version}"
        knobs = self.difficulty and self.difficulty.model_dump(mode="json")
        text = json.dumps([self.draw, knobs], sort_keys=True)
        return f"{self.name}-v{self.version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def draws(self, *key: str | int) -> Draws:
        """Return the draws of one image."""
        drawn = (f"draw {self.draw}",) if self.draw else ()
        return Draws(self.name, self.version, *drawn, *key)


_CLUTTER, _PLACES = Difficulty(), Difficulty(places=2)
_SHIPPED = (
    World("shapes20", "detection", 20, 500, 300, SCENE_SIDE),
    World("shapes20_half", "detection", 20, 250, 300, SCENE_SIDE),
    World("shapes20_tiny", "detection", 20, 60, 40, SCENE_SIDE),
    World("shapes80", "detection", 80, 1600, 600, SCENE_SIDE),
    World("clutter20", "detection", 20, 500, 300, SCENE_SIDE, difficulty=_CLUTTER),
    World("clutter20_dev", "detection", 20, 500, 300, SCENE_SIDE, difficulty=_CLUTTER),
    World("clutter20_tiny", "detection", 20, 60, 40, SCENE_SIDE, difficulty=_CLUTTER),
    World("clutter20_places", "detection", 20, 1000, 300, SCENE_SIDE, difficulty=_PLACES),
    World("clutter80", "detection", 80, 1600, 600, SCENE_SIDE, difficulty=_CLUTTER),
    World("shapes_cil", "classification", 40, 30, 20, 64, version="2"),
    # enough test images for one point; drawn apart from all others, so that choices made on the
    # validation world have seen no image that reports
    World("shapes40", "classification", 40, 30, 150, 64),
    World("shapes40_dev", "classification", 40, 30, 50, 64),
    World("shapes_cil_tiny", "classification", 40, 6, 4, 64, version="2"),
)
WORLDS: dict[str, World] = {world.name: world for world in _SHIPPED}


def find_world(name: str, draw: int = 0, difficulty: Mapping[str, Any] | None = None) -> World:
    """Return a shipped world, or another draw of it, or one with other knobs.

    Args:
        name: one of ``WORLDS``.
        draw: 0 is the shipped one; each other number gives other images of the same kind.
        difficulty: the knobs that differ from the shipped world's.

    Raises:
        InputError: if there is no such world, or it has no knobs.
    """
    shipped = WORLDS.get(name)
    if shipped is None:
        expected = f"one of {', '.join(WORLDS)}{nearest(name, WORLDS)}"
        raise InputError(f"unknown world {name!r}", "data", expected)
    if not difficulty:
        return replace(shipped, draw=draw)
    if shipped.difficulty is None:
        cluttered = [world.name for world in _SHIPPED if world.difficulty]
        what = f"world {name!r} has no difficulty to set"
        raise InputError(what, "data.difficulty", f"one of {', '.join(cluttered)}")
    knobs = Difficulty.model_validate({**shipped.difficulty.model_dump(), **difficulty})
    return replace(shipped, draw=draw, difficulty=knobs)


def changes(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a data spec changes about its world: ``draw`` and ``difficulty``, if anything."""
    return {key: spec[key] for key in ("draw", "difficulty") if spec.get(key)}


def world_spec(
    world: str, draw: int = 0, difficulty: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe a world without drawing it; arguments as of ``find_world``.

    Returns:
        {"data_id", "version", "kind", "classes": [...], "counts": {split: images}, "places"}; the
        places are numbered from 1 to this.

    Raises:
        InputError: as of ``find_world``.
    """
    own = find_world(world, draw, difficulty)
    each = own.classes if own.kind == "classification" else 1
    return {
        "data_id": own.data_id,
        "version": own.version,
        "kind": own.kind,
        "classes": class_names(own.classes),
        "counts": {"train": own.train * each, "test": own.test * each},
        "places": own.difficulty.places if own.difficulty else 0,
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


def generate(
    world: str, out: Path, draw: int = 0, difficulty: Mapping[str, Any] | None = None
) -> None:
    """Draw a world: ``images/*.png``, ``train.json``, ``test.json`` and, last, ``index.json``.

    Args:
        world: name, as of ``find_world``.
        out: the folder.
        draw: as of ``find_world``.
        difficulty: as of ``find_world``.

    Raises:
        InputError: as of ``find_world``.
    """
    spec, own = world_spec(world, draw, difficulty), find_world(world, draw, difficulty)
    make_folder(out / "images")
    for split in ("train", "test"):
        build = _detection if has_boxes(spec) else _classification
        write_json(out / f"{split}.json", build(own, spec, split, out))
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


def draw_scene(
    world: World, split: str, number: int
) -> tuple[np.ndarray, list[tuple[str, list[int]]], int | None]:
    """Draw scene ``number`` (from 1) of a split of a detection world.

    Returns:
        What ``scene`` returns, and the number of the scene's place or None.
    """
    classes, draws = class_names(world.classes), world.draws(split, number)
    if world.difficulty is None:
        return (*scene(classes, draws), None)
    place = place_of(number, world.difficulty)
    return (*cluttered_scene(classes, world.difficulty, world.side, place, draws), place)


def _detection(world: World, spec: dict[str, Any], split: str, out: Path) -> dict[str, Any]:
    """Draw the scenes of a split and return it in COCO format, category ids from 1."""
    ids = {name: k + 1 for k, name in enumerate(spec["classes"])}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, spec["counts"][split] + 1):
        pixels, objects, place = draw_scene(world, split, number)
        image_id = number if split == "train" else 100_000 + number
        file_name = f"{split}_{number:05d}.png"
        _save(pixels, out / "images" / file_name)
        image = {"id": image_id, "file_name": file_name, "width": SCENE_SIDE, "height": SCENE_SIDE}
        images.append(image if place is None else {**image, "place": place})
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


def _classification(world: World, spec: dict[str, Any], split: str, out: Path) -> dict[str, Any]:
    """Draw the labelled images of a split, class by class."""
    each = spec["counts"][split] // len(spec["classes"])
    images: list[dict[str, Any]] = []
    for name in spec["classes"]:
        for number in range(1, each + 1):
            draws = world.draws(split, name, number)
            file_name = f"{split}_{name.replace(' ', '_')}_{number:03d}.png"
            _save(rendition(name, world.side, draw_style(draws), draws), out / "images" / file_name)
            image_id = len(images) + (1 if split == "train" else 100_001)
            images.append({"id": image_id, "file_name": file_name, "label": name})
    return {"classes": spec["classes"], "images": images}


def _save(pixels: np.ndarray, path: Path) -> None:
    """Write a PNG; fast compression, because the noise does not compress anyway."""
    Image.fromarray(pixels).save(path, compress_level=1)
