"""Corrected labels read back into a COCO data set: from Label Studio, or from a COCO file (CVAT).

Images that the corrected file holds get its boxes for theirs, all of them; the others stay. A class
that a person added gets an id of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.core.names import canonical_name
from clclip.data.readers.coco import read_coco
from clclip.data.review.label_studio import Reviewed, read_tasks


@dataclass(frozen=True)
class Corrected:
    """The data set, and what was done to it.

    Attributes:
        dataset: COCO; boxes that a person has seen carry no score.
        reviewed: how many images a person has looked at.
        open: how many images of the file nobody has: their boxes stay as they were.
    """

    dataset: dict[str, Any]
    reviewed: int
    open: int


def corrected(dataset: Mapping[str, Any], path: Path) -> Corrected:
    """Return a COCO data set with the boxes of a corrected file.

    Args:
        dataset: the data set that was given away for review.
        path: Label Studio's export, or a COCO file.

    Raises:
        InputError: if the file is neither, or an image of it is none of the data set's.
    """
    given = read_json(path)
    tasks = _of_coco(path) if isinstance(given, dict) else read_tasks(given, path)
    made = copy.deepcopy(dict(dataset))
    for image in made["images"]:
        if not image.get("width") or not image.get("height"):
            what = f"image {image['file_name']!r} without width and height"
            raise InputError(what, "--data", "the file that `clclip label` wrote")
    places = _places(made["images"])
    ids = {canonical_name(c["name"]): c["id"] for c in made["categories"]}
    drawn: dict[Any, list[dict[str, Any]]] = {}
    known: set[Any] = set()
    waiting = 0
    for task in tasks:
        image = next((places[name] for name in task.names if name in places), None)
        if image is None:
            expected = f"one of the {len(made['images'])} images of the data set"
            raise InputError(f"image {task.names[0]!r}", task.where, expected)
        if image["id"] in known:
            what = f"image {image['file_name']!r} a second time"
            raise InputError(what, task.where, "one task an image")
        known.add(image["id"])
        if not task.reviewed:
            waiting += 1
            continue
        drawn[image["id"]] = [
            _annotation(box, image, ids, made["categories"]) for box in task.boxes
        ]
    annotations = [a for a in made["annotations"] if a["image_id"] not in drawn]
    number = max((a["id"] for a in made["annotations"]), default=0)
    for boxes in drawn.values():
        for box in boxes:
            number += 1
            annotations.append({"id": number} | box)
    made["annotations"] = annotations
    return Corrected(made, len(drawn), waiting)


def _of_coco(path: Path) -> list[Reviewed]:
    """Read a COCO file as reviewed images; its boxes become shares of its own sizes."""
    annotated = read_coco(path, path.parent)
    names = {category["id"]: category["name"] for category in annotated.categories}
    tasks = {}
    for n, image in enumerate(annotated.images):
        if not image["width"] or not image["height"]:
            what = f"image {image['file_name']!r} without width and height"
            raise InputError(what, annotated.where_image(n), "the size of the image in pixels")
        file_name = image["file_name"]
        spelt = list(dict.fromkeys([file_name, file_name.rpartition("/")[2]]))
        tasks[image["id"]] = (Reviewed(spelt, True, annotated.where_image(n)), image)
    if annotated.bad_boxes:
        raise annotated.bad_boxes[min(annotated.bad_boxes)]
    for box in annotated.annotations:
        task, image = tasks[box["image_id"]]
        x, y, w, h = box["bbox"]
        wide, high = image["width"], image["height"]
        if min(x + w, wide) <= max(x, 0) or min(y + h, high) <= max(y, 0):
            what = f"box {box['bbox']} of annotation {box['id']}"
            expected = f"a box with an area inside the image of {wide} x {high}"
            raise InputError(what, path, expected)
        task.boxes.append((names[box["category_id"]], x / wide, y / high, w / wide, h / high))
    return [task for task, _ in tasks.values()]


def _places(images: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the images by their names, and by the last part of it where no other has that."""
    by_name = {image["file_name"]: image for image in images}
    last: dict[str, list[dict[str, Any]]] = {}
    for image in images:
        last.setdefault(image["file_name"].rpartition("/")[2], []).append(image)
    alone = {name: own[0] for name, own in last.items() if len(own) == 1}
    return alone | by_name


def _annotation(
    box: tuple[str, float, float, float, float],
    image: Mapping[str, Any],
    ids: dict[str, int],
    categories: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return a box as a COCO annotation without an id, cut at the border of its image."""
    name, x, y, w, h = box
    if name not in ids:
        ids[name] = max([0, *ids.values()]) + 1
        categories.append({"id": ids[name], "name": name})
    left, top = max(0.0, x) * image["width"], max(0.0, y) * image["height"]
    right, bottom = min(1.0, x + w) * image["width"], min(1.0, y + h) * image["height"]
    rounded = [round(value, 2) for value in (left, top, right - left, bottom - top)]
    return {
        "image_id": image["id"],
        "category_id": ids[name],
        "bbox": rounded,
        "area": round(rounded[2] * rounded[3], 4),
        "iscrowd": 0,
    }
