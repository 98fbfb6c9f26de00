"""Reading a COCO json: structure, ids and references checked, every error with its place."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError, nearest
from clclip.core.files import read_json
from clclip.data.readers.annotated import Annotated, check_class_name, check_file_name

# Evaluators hold ids in float64 arrays; beyond this two ids could become one.
_MAX_ID = 2**53

_SAMPLE = 300  # about so many images are looked for in each folder that may hold them


def annotation_file(spec: dict[str, Any], split: str) -> Path:
    """Return the json of ``split`` ("train" or "test") of a data spec of format coco."""
    if not isinstance(spec.get(split), str) or not spec[split]:
        raise InputError(f"no {split} annotations", f"data.{split}", "the name of a COCO json file")
    return Path(spec["root"]) / spec[split]


def image_folder(spec: dict[str, Any], split: str, names: Sequence[str]) -> Path:
    """Return the image folder of ``split``: the candidate that holds most of the images ``names``.

    Some hundred of them are looked for, spread over the list: one image that is missing, or that
    lies in another candidate too, decides nothing. Of equal candidates the first is taken.

    Candidates are ``spec["images"]`` (default: ``images``), the folder in it that is named like the
    annotations (official layout: ``train2017`` for ``instances_train2017.json``), the folder of the
    annotations themselves, and, without ``spec["images"]``, the root.

    Raises:
        InputError: if ``spec["images"]`` is given and does not exist.
    """
    root, images, path = Path(spec["root"]), spec.get("images"), annotation_file(spec, split)
    named = root / (images or "images")
    if images and not named.is_dir():
        raise InputError(f"no image folder {str(named)!r}", "data.images", "an existing folder")
    official = path.stem.removeprefix("instances_")
    candidates = [
        named,
        named / official,
        root / official,
        path.parent,
        *([] if images else [root]),
    ]
    folders = [folder for folder in dict.fromkeys(candidates) if folder.is_dir()]
    sample = names[:: max(1, len(names) // _SAMPLE)]
    return max(folders, key=lambda folder: sum(os.path.lexists(folder / n) for n in sample))


def read_splits(spec: dict[str, Any]) -> dict[str, Annotated]:
    """Read both splits of a data spec of format coco."""
    return {split: _read_split(spec, split) for split in ("train", "test")}


def _read_split(spec: dict[str, Any], split: str) -> Annotated:
    """Read one split and find its image folder."""
    annotated = read_coco(annotation_file(spec, split), Path(spec["root"]))
    names = [image["file_name"] for image in annotated.images]
    annotated.folder = image_folder(spec, split, names)
    return annotated


def read_coco(path: Path, folder: Path) -> Annotated:
    """Read and check a COCO json of detections.

    Args:
        path: the json.
        folder: the folder that its file names are relative to.

    Raises:
        InputError: on anything but boxes and images, which are checked once the images are open.
    """
    data = _read_document(path)
    if not isinstance(data, dict):
        raise InputError(
            f"a {type(data).__name__}", path, "a COCO object with images, annotations, categories"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            found = "no" if key not in data else f"{type(data[key]).__name__} as"
            raise InputError(f"{found} {key}{nearest(key, data)}", path, f"a list {key!r}")
    categories = _read_categories(data["categories"], path)
    images = _read_images(data["images"], path)
    annotations = _read_annotations(data["annotations"], path, images, categories)
    return Annotated(
        source=path,
        folder=folder,
        images=images,
        annotations=annotations,
        categories=categories,
        where_image=lambda n: f"{path}: images[{n}] (id {images[n]['id']})",
        where_box=lambda n: f"{path}: annotations[{n}].bbox (id {annotations[n]['id']})",
    )


def _read_document(path: Path) -> Any:
    """Read the json; a number of thousands of digits is bad input too."""
    try:
        return read_json(path)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"not JSON ({error})", path, "a complete JSON file") from None


def _read_categories(entries: list[Any], path: Path) -> list[dict[str, Any]]:
    """Return {"id", "name"} of each category; ids and names must be unique."""
    if not entries:
        raise InputError("no category", f"{path}: categories", "at least one class")
    categories, ids, names = [], {}, {}
    for n, entry in enumerate(entries):
        where = f"{path}: categories[{n}]"
        entry = _object(entry, where)
        # spaces at the ends are nobody's intention, and an experiment file cannot name them
        name = check_class_name(entry.get("name"), f"{where}.name").strip()
        number = _unique_id(entry, where, ids)
        if name in names:
            raise InputError(
                f"duplicate class name {name!r} (also categories[{names[name]}])",
                f"{where}.name",
                "unique names",
            )
        names[name] = n
        categories.append({"id": number, "name": name})
    return categories


def _read_images(entries: list[Any], path: Path) -> list[dict[str, Any]]:
    """Return {"id", "file_name", "width", "height"} of each image; ids must be unique."""
    images, ids = [], {}
    for n, entry in enumerate(entries):
        where = f"{path}: images[{n}]"
        entry = _object(entry, where)
        images.append(
            {
                "id": _unique_id(entry, where, ids),
                "file_name": check_file_name(entry.get("file_name"), f"{where}.file_name"),
                "width": _length(entry, "width", where),
                "height": _length(entry, "height", where),
            }
        )
    return images


def _read_annotations(
    entries: list[Any], path: Path, images: list[dict[str, Any]], categories: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the boxes; each must name an image and a category of the same file."""
    image_ids = {image["id"] for image in images}
    category_ids = {category["id"] for category in categories}
    annotations, ids = [], {}
    for n, entry in enumerate(entries):
        where = f"{path}: annotations[{n}]"
        entry = _object(entry, where)
        annotation = {
            "id": _unique_id(entry, where, ids),
            "image_id": _reference(entry, "image_id", image_ids, where, "images"),
            "category_id": _reference(entry, "category_id", category_ids, where, "categories"),
            "bbox": box_numbers(entry.get("bbox"), f"{where}.bbox"),
            "iscrowd": _flag(entry, "iscrowd", where),
        }
        annotation["area"] = _area(entry.get("area"), annotation["bbox"])
        for key in ("ignore", "difficult"):
            if _flag(entry, key, where):
                annotation[key] = 1
        annotations.append(annotation)
    return annotations


def box_numbers(box: object, where: object) -> list[float]:
    """Return ``box`` as four floats, which may still be NaN, infinite or outside the image.

    Raises:
        InputError: if it is not a list of four numbers.
    """
    if not isinstance(box, list) or len(box) != 4:
        raise InputError(
            f"box {_short(box)}", where, "four numbers [x, y, width, height] in pixels"
        )
    numbers = [number_or_none(value) for value in box]
    if None in numbers:
        raise InputError(
            f"box {_short(box)}", where, "four numbers [x, y, width, height] in pixels"
        )
    return numbers


def number_or_none(value: object) -> float | None:
    """Return a JSON number as float (infinite where too large), None if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _object(entry: object, where: str) -> dict[str, Any]:
    """Return ``entry`` if it is a JSON object."""
    if not isinstance(entry, dict):
        raise InputError(f"{_short(entry)}", where, "an object {...}")
    return entry


def _unique_id(entry: dict[str, Any], where: str, seen: dict[int, str]) -> int:
    """Return the entry's id and note it in ``seen``; it must be an integer used once."""
    number = entry.get("id")
    if not _is_integer(number) or abs(number) >= _MAX_ID:
        found = f"id {_short(number)}" if "id" in entry else "no id"
        raise InputError(found, f"{where}.id", "an integer")
    if number in seen:
        raise InputError(
            f"duplicate id {number} (also {seen[number]})", f"{where}.id", "unique ids"
        )
    seen[number] = where.rpartition(": ")[2]
    return number


def _reference(entry: dict[str, Any], key: str, known: set[int], where: str, target: str) -> int:
    """Return ``entry[key]``, which must be one of the ids of ``target``."""
    number = entry.get(key)
    if not _is_integer(number):
        found = f"{key} {_short(number)}" if key in entry else f"no {key}"
        raise InputError(found, f"{where}.{key}", f"an id of {target}")
    if number not in known:
        what = f"{key} {number}, which is not in {target}, of annotation {entry['id']}"
        raise InputError(what, f"{where}.{key}", f"an id of {target}")
    return number


def _length(entry: dict[str, Any], key: str, where: str) -> int | None:
    """Return a recorded width or height in pixels; None where nothing (or 0) is recorded."""
    value = entry.get(key)
    if value is None or (_is_integer(value) and value == 0):
        return None
    number = number_or_none(value)
    if number is None or not math.isfinite(number) or number < 1 or number != int(number):
        raise InputError(
            f"{key} {_short(value)}", f"{where}.{key}", "a positive whole number of pixels"
        )
    return int(number)


def _flag(entry: dict[str, Any], key: str, where: str) -> int:
    """Return a 0/1 flag; left out or null means 0."""
    value = entry.get(key)
    if value is None:
        return 0
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    raise InputError(f"{key} {_short(value)}", f"{where}.{key}", "0 or 1")


def _area(value: object, box: list[float]) -> float:
    """Return the recorded area in square pixels if it is positive, else that of the box."""
    number = number_or_none(value)
    return number if number is not None and 0 < number < math.inf else box[2] * box[3]


def _is_integer(value: object) -> bool:
    """Return whether ``value`` is a JSON integer (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: object, limit: int = 60) -> str:
    """Return ``value`` for a message, cut to ``limit`` characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= limit else text[: limit - 3] + "..."
