"""Reading what a task predicted, and refusing what cannot be scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import read_json


def class_ids(ground_truth: Mapping[str, Any], names: list[str], where: Path) -> dict[str, int]:
    """Return class name -> category id, in the order of ``names``.

    Raises:
        InputError: if the data set does not declare a class.
    """
    known = {category["name"]: category["id"] for category in ground_truth["categories"]}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"no category {missing[0]!r}", where, "the categories of all seen classes")
    return {name: known[name] for name in names}


def read_detections(
    path: Path, ground_truth: Mapping[str, Any], classes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Read COCO results and check every entry.

    Raises:
        InputError: a missing file, an unknown image, a category that is no seen class, a score or
            box that is no finite number, a negative size.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"a {type(rows).__name__}", path, "a list of COCO results")
    images = {image["id"] for image in ground_truth["images"]}
    categories = set(classes.values())
    for index, row in enumerate(rows):
        _check_row(row, f"{path}[{index}]", images, categories)
    return rows


def _check_row(row: Any, where: str, images: set[Any], categories: set[Any]) -> None:
    """Check one entry of a results list."""
    if not isinstance(row, dict) or not {"image_id", "category_id", "bbox", "score"} <= row.keys():
        raise InputError("not a COCO result", where, "image_id, category_id, bbox and score")
    if not _among(row["image_id"], images):
        raise InputError(f"image_id {row['image_id']!r}", where, "the id of a test image")
    if not _among(row["category_id"], categories):
        raise InputError(
            f"category_id {row['category_id']!r}", where, "the category id of a class seen so far"
        )
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(value) for value in box):
        raise InputError(f"bbox {box!r}", where, "four finite numbers [x, y, width, height]")
    if box[2] < 0 or box[3] < 0:
        raise InputError(f"bbox {box!r}", where, "a width and a height of at least 0")
    if not _finite(row["score"]):
        raise InputError(f"score {row['score']!r}", where, "a finite number")


def _among(value: Any, known: set[Any]) -> bool:
    """Whether ``value`` is one of the ids; true is not 1, and a list is no id."""
    return isinstance(value, int | str) and not isinstance(value, bool) and value in known


def _finite(value: Any) -> bool:
    """Whether ``value`` is a finite number; JSON's NaN and Infinity pass the parser."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) < 1e300  # neither NaN nor infinite, nor an integer that no float can hold


def read_probabilities(
    path: Path, truth: Mapping[str, Any], names: list[str]
) -> tuple[list[str], list[str]]:
    """Read class probabilities; return the true and the predicted class names of every test image.

    Of equal probabilities the first column wins.

    Raises:
        InputError: a missing file or key, columns other than the seen classes, an unknown,
            repeated or left-out image, a label that differs from the test list, a row of wrong
            length, a value that is not finite.
    """
    data = read_json(path)
    keys = {"classes", "images", "labels", "probabilities"}
    if not isinstance(data, dict) or not keys <= data.keys():
        raise InputError("not class probabilities", path, f"the keys {', '.join(sorted(keys))}")
    if data["classes"] != names:
        raise InputError(
            f"columns {data['classes']!r}", path, f"the seen classes in order, {names!r}"
        )
    for key in ("images", "labels", "probabilities"):
        entries = data[key]
        if not isinstance(entries, list) or (
            key == "images" and not all(isinstance(entry, int | str) for entry in entries)
        ):
            raise InputError(f"{key} {entries!r:.60}", path, f"a list of {key}, one per test image")
    images, labels, rows = data["images"], data["labels"], data["probabilities"]
    if not len(images) == len(labels) == len(rows):
        raise InputError(
            f"{len(images)} images, {len(labels)} labels, {len(rows)} rows", path, "equal numbers"
        )
    label_of = {image["id"]: image["label"] for image in truth["images"] if image["label"] in names}
    if len(set(images)) != len(images):
        raise InputError("an image twice", f"{path} images", "every test image once")
    left_out = label_of.keys() - set(images)
    if left_out:
        raise InputError(f"{len(left_out)} test images left out", path, "every test image once")
    predicted = []
    for image, label, row in zip(images, labels, rows, strict=True):
        if label_of.get(image) != label:
            raise InputError(
                f"label {label!r} of image {image!r}",
                path,
                f"{label_of.get(image)!r} as in test.json",
            )
        fits = isinstance(row, list) and len(row) == len(names)
        if not fits or not all(_finite(value) for value in row):
            raise InputError(
                f"probabilities of image {image!r}", path, f"{len(names)} finite numbers"
            )
        predicted.append(names[max(range(len(row)), key=row.__getitem__)])
    return labels, predicted
