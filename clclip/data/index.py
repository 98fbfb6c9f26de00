"""Reading what ``clclip prepare`` wrote, checked: a file edited or half copied is an InputError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.core.artifacts import KIND_NAMES, Task
from clclip.core.errors import InputError
from clclip.core.files import read_object
from clclip.core.task import data_dir

_EXPECTED = "the file as `clclip prepare` wrote it"


def read_index(folder: Path) -> dict[str, Any]:
    """Read the index of a prepared data set.

    Raises:
        InputError: if it is missing or no index.
    """
    path = folder / "index.json"
    index = _read(path, ("kind", "classes", "splits", "root"))
    if index["kind"] not in KIND_NAMES:
        raise InputError(f"kind {index['kind']!r:.60}", path, _EXPECTED)
    _all(index["classes"], _is_text, f"{path}: classes")
    return index


def image_root(task: Task, resources: Path) -> Path:
    """Return the folder that file names of a task's images start from.

    The index alone knows it: a data set that was moved keeps its id, and with it all else that was
    made of it.

    Raises:
        InputError: if the index is missing or damaged.
    """
    folder = data_dir(task, resources)
    return folder / _read(folder / "index.json", ("root",))["root"]


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Read an index that has ``keys``, its root among them."""
    index = read_object(path, keys, "prepare")
    if not isinstance(index["root"], str) or "\0" in index["root"]:
        raise InputError(f"root {index['root']!r:.60}", path, _EXPECTED)
    return index


def read_split(path: Path, kind: str) -> dict[str, Any]:
    """Read one split of a prepared data set of ``kind``.

    Raises:
        InputError: if it is missing, or an entry lacks what every prepared entry has.
    """
    if kind == "classification":
        data = read_object(path, ("images", "classes"), "prepare")
        _all(data["images"], _is_labelled, f"{path}: images")
        return data
    data = read_object(path, ("images", "annotations", "categories"), "prepare")
    for key, fits in (("images", _is_image), ("annotations", _is_box), ("categories", _is_named)):
        _all(data[key], fits, f"{path}: {key}")
    ids = {category["id"] for category in data["categories"]}
    for n, box in enumerate(data["annotations"]):
        if box["category_id"] not in ids:
            where = f"{path}: annotations[{n}]"
            raise InputError(f"category_id {box['category_id']}", where, _EXPECTED)
    return data


def instances(data: Mapping[str, Any], classes: Sequence[str]) -> dict[str, int]:
    """Return the number of instances of each class in a split, without crowds and ignored boxes.

    Classification: the number of images.
    """
    if "annotations" not in data:
        counts = Counter(image["label"] for image in data["images"])
        return {name: counts[name] for name in classes}
    names = {category["id"]: category["name"] for category in data["categories"]}
    counts = Counter(
        names[box["category_id"]]
        for box in data["annotations"]
        if not box["iscrowd"] and not box.get("ignore")
    )
    return {name: counts[name] for name in classes}


def _all(entries: Any, fits: Callable[[Any], bool], where: str) -> None:
    """Raise InputError unless ``entries`` is a list whose entries all fit."""
    if not isinstance(entries, list):
        raise InputError(f"a {type(entries).__name__}", where, _EXPECTED)
    for n, entry in enumerate(entries):
        if not fits(entry):
            raise InputError(f"entry {entry!r:.80}", f"{where}[{n}]", _EXPECTED)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_image(value: Any) -> bool:
    return isinstance(value, dict) and _is_number(value.get("id")) and "file_name" in value


def _is_labelled(value: Any) -> bool:
    return _is_image(value) and isinstance(value.get("label"), str)


def _is_named(value: Any) -> bool:
    named = isinstance(value, dict) and isinstance(value.get("name"), str)
    return named and _is_number(value.get("id"))


def _is_box(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("bbox"), list):
        return False
    return value.get("iscrowd") in (0, 1) and all(
        _is_number(value.get(key)) for key in ("id", "image_id", "category_id")
    )
