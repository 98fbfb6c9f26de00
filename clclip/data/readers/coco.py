"""Reading a COCO json: structure, ids and references checked, every error with its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError, nearest
from clclip.core.files import read_json
from clclip.data.readers.annotated import NO_BOX, Annotated, check_file_name, relative_name
from clclip.data.readers.categories import read_categories, renamed, without_clashes
from clclip.data.readers.fields import (
    BOX_EXPECTED,
    an_object,
    area,
    box_numbers,
    flag,
    length,
    reference,
    shown,
    type_name,
    unique_id,
    whole,
)
from clclip.data.readers.links import broken_link

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

    Candidates are ``spec["images"]`` (default: ``images``), the folder in it that is named as the
    annotations (official layout: ``train2017`` for ``instances_train2017.json``), the folder of the
    annotations themselves, and, without ``spec["images"]``, the root.

    Raises:
        InputError: if ``spec["images"]`` is given and does not exist.
    """
    root, images, path = Path(spec["root"]), spec.get("images"), annotation_file(spec, split)
    named = root / (images or "images")
    if images and not named.is_dir():
        broken = f" but a {link}" if (link := broken_link(named)) else ""
        what = f"no image folder {str(named)!r}{broken}"
        raise InputError(what, "data.images", "an existing folder")
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
    return max(folders, key=lambda folder: sum(_holds(folder, name) for name in sample))


def _holds(folder: Path, name: str) -> bool:
    """Return whether an image lies in a folder; an absolute path may lead there."""
    inside = relative_name(name, folder)
    return not os.path.isabs(inside) and os.path.lexists(folder / inside)


def read_splits(spec: dict[str, Any]) -> dict[str, Annotated]:
    """Read both splits of a data spec of format coco."""
    splits = {split: _read_split(spec, split) for split in ("train", "test")}
    without_clashes(splits)
    return splits


def _read_split(spec: dict[str, Any], split: str) -> Annotated:
    """Read one split and find its image folder, which absolute names must lie in."""
    annotated = read_coco(annotation_file(spec, split), Path(spec["root"]))
    names = [image["file_name"] for image in annotated.images]
    annotated.folder = image_folder(spec, split, names)
    for n, (image, name) in enumerate(zip(annotated.images, names, strict=True)):
        if os.path.isabs(name):
            where = f"{annotated.source}: images[{n}].file_name"
            image["file_name"] = check_file_name(relative_name(name, annotated.folder), where)
    return annotated


def read_coco(path: Path, folder: Path) -> Annotated:
    """Read and check a COCO json of detections.

    Args:
        path: the json.
        folder: the folder that its file names are relative to.

    Raises:
        InputError: on anything but boxes and images: those are the user's choice, or checked once
            the images are open.
    """
    data = _read_document(path)
    if not isinstance(data, dict):
        expected = "a COCO object with images, annotations, categories"
        raise InputError(type_name(data), path, expected)
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            absent = f"no {key}{nearest(key, data)}"
            what = f"{type_name(data[key])} as {key}" if key in data else absent
            raise InputError(what, path, f"a list {key!r}")
    named = (whole(e.get("category_id")) for e in data["annotations"] if isinstance(e, dict))
    used = {number for number in named if number is not None}
    categories, notes = read_categories(data["categories"], path, used)
    images = _read_images(data["images"], path)
    annotations, bad_boxes = _read_annotations(data["annotations"], path, images, categories)
    return Annotated(
        source=path,
        folder=folder,
        images=images,
        annotations=annotations,
        categories=categories,
        where_image=lambda n: f"{path}: images[{n}] (id {images[n]['id']})",
        where_box=lambda n: f"{path}: annotations[{n}].bbox (id {annotations[n]['id']})",
        bad_boxes=bad_boxes,
        renamed=renamed(data["categories"], categories),
        notes=notes,
    )


def _read_document(path: Path) -> Any:
    """Read the json; a number of thousands of digits is bad input too."""
    try:
        return read_json(path)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"not JSON ({error})", path, "a complete JSON file") from None


def _read_images(entries: list[Any], path: Path) -> list[dict[str, Any]]:
    """Return {"id", "file_name", "width", "height"} of each image; ids must be unique.

    An image's "place" is used where it is a whole number from 1 (``image_rule: place``).
    """
    images: list[dict[str, Any]] = []
    ids: dict[int, str] = {}
    for n, entry in enumerate(entries):
        where = f"{path}: images[{n}]"
        entry = an_object(entry, where)
        if "file_name" not in entry:
            raise InputError("no file_name", where, "a path relative to the image folder")
        image = {
            "id": unique_id(entry, where, ids),
            "file_name": check_file_name(entry["file_name"], f"{where}.file_name", True),
            "width": length(entry, "width", where),
            "height": length(entry, "height", where),
        }
        place = entry.get("place")
        whole = isinstance(place, int) and not isinstance(place, bool) and place > 0
        images.append(image | ({"place": place} if whole else {}))
    return images


def _read_annotations(
    entries: list[Any], path: Path, images: list[dict[str, Any]], categories: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[int, InputError]]:
    """Return the boxes, and what is wrong with those that are no four numbers.

    Each must name an image and a category of the same file.
    """
    image_ids = {image["id"] for image in images}
    category_ids = {category["id"] for category in categories}
    annotations: list[dict[str, Any]] = []
    bad: dict[int, InputError] = {}
    ids: dict[int, str] = {}
    for n, entry in enumerate(entries):
        where = f"{path}: annotations[{n}]"
        entry = an_object(entry, where)
        box = box_numbers(entry.get("bbox"))
        annotation: dict[str, Any] = {
            "id": unique_id(entry, where, ids),
            "image_id": reference(entry, "image_id", image_ids, where, "images"),
            "category_id": reference(entry, "category_id", category_ids, where, "categories"),
            "bbox": box or NO_BOX,
            "iscrowd": flag(entry, "iscrowd", where),
        }
        if box is None:
            problem = f"box {shown(entry['bbox'])}" if "bbox" in entry else "no box"
            bad[n] = InputError(problem, f"{where}.bbox", BOX_EXPECTED)
        annotation["area"] = area(entry.get("area"), annotation["bbox"])
        for key in ("ignore", "difficult"):
            if flag(entry, key, where):
                annotation[key] = 1
        annotations.append(annotation)
    return annotations, bad
