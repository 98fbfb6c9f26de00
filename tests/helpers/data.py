"""Tiny data sets that the data tests write themselves."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from PIL import Image

ROTATE_90 = 6  # EXIF orientation: stored 40 x 30, shown 30 x 40


def save_image(
    path: Path, size: tuple[int, int] = (40, 30), orientation: int = 1, **kind: Any
) -> None:
    """Write an image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(kind.get("mode", "RGB"), size, kind.get("colour", 120))
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, **({"exif": exif} if orientation != 1 else {}))


def box(number: int, image: int, category: int, bbox: list[float], **flags: int) -> dict[str, Any]:
    """Return one COCO annotation."""
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **flags}


# Two splits with odd ids: categories 3 = cat, 7 = dog, 90 = dining table.
CATEGORIES = [
    {"id": 3, "name": "cat"},
    {"id": 90, "name": "dining table"},
    {"id": 7, "name": "dog"},
]
TRAIN = {
    "images": [
        {"id": 12, "file_name": "c.png", "width": 40, "height": 30},
        {"id": 5, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 9, "file_name": "b.png", "width": 40, "height": 30},
    ],
    "annotations": [
        box(101, 5, 3, [1, 2, 10, 10], iscrowd=0, area=80),
        box(102, 5, 7, [20, 2, 10, 10]),
        box(103, 9, 7, [0, 0, 40, 30]),
        box(104, 9, 3, [5, 5, 20, 20], iscrowd=1),
        box(105, 12, 7, [3, 3, 4, 4], ignore=1),
    ],
    "categories": CATEGORIES,
}
TEST = {
    "images": [{"id": 1, "file_name": "t.png", "width": 40, "height": 30}],
    "annotations": [box(1, 1, 7, [2, 2, 5, 5])],
    "categories": CATEGORIES,
}


def make_coco(root: Path, train: Any = TRAIN, test: Any = TEST) -> dict[str, Any]:
    """Write both jsons and the images a, b, c, t.png; return the data spec."""
    for name in "abct":
        save_image(root / "images" / f"{name}.png")
    for split, data in (("train", train), ("test", test)):
        text = data if isinstance(data, str) else json.dumps(data)
        (root / f"{split}.json").write_text(text, encoding="utf-8")
    return {
        "format": "coco",
        "root": str(root),
        "images": "images",
        "train": "train.json",
        "test": "test.json",
    }


def edited(data: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    """Return a deep copy of ``data`` with the value at ``path`` replaced."""
    copied = copy.deepcopy(data)
    target = copied
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return copied


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
