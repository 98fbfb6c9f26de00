"""``clclip split``: the images and labels that one task may see.

Training: images that hold at least one object of a current class, labelled with current classes
only; objects of past and future classes stay in the picture, unlabelled. Test: every test image,
labelled with all classes seen so far; which images count (``full`` or ``group``) is the scorer's
choice.

Image rules (``data.image_rule``):

- ``overlap``: every such image; it returns in each task whose classes it shows (VOC and most COCO
  protocols).
- ``non_cooccurrence``: none that holds any annotation, crowds included, of a previous class (IOR).
- ``disjoint``: no image returns. It belongs to the first task of whose classes it shows an object.
  With ``data.fractions`` (one per task up to this one) images are dealt out by a hash of their id
  instead, whatever they show (the partition of CL-DETR, 7/8 and 1/8 for 70+10, with another
  shuffle). Both depend on tasks 1..t only: a task added later moves no image of an earlier one.
- ``place``: task t trains on the images of place t alone (an image's "place" is a whole number from
  1: where it was taken); ``joint`` trains on all. Test images are of all places.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clclip.core.artifacts import Task
from clclip.core.errors import InputError, nearest
from clclip.core.files import write_json
from clclip.core.task import (
    current_classes,
    data_dir,
    has_boxes,
    previous_classes,
    read_task,
    seen_classes,
    trains_all,
)
from clclip.data.holdout import divided, share_held_out
from clclip.data.index import read_index, read_split

logger = logging.getLogger(__name__)

IMAGE_RULES = ("overlap", "disjoint", "non_cooccurrence", "place")


def split_task(task_file: Path, resources: Path) -> None:
    """Write ``train.json`` and ``test.json`` beside ``task_file``.

    Detection: COCO format with original ids, ``info`` = {"task", "split", "image_rule", "counts":
    {class: instances}}. Classification: {"classes", "images": [{"id", "file_name", "label"}],
    "info"}. Both are sorted by image id. Where the images lie is in the data's index alone, so that
    these files are the same wherever that is.

    Raises:
        InputError: if a class is not in the data, or the task has no training image.
    """
    task = read_task(task_file)
    home = data_dir(task, resources)
    index = read_index(home)
    _check_classes(task, index, task_file)
    data = {split: read_split(home / f"{split}.json", index["kind"]) for split in ("train", "test")}
    if has_boxes(index):
        train = detection_train(data["train"], task, str(task_file))
        if share := share_held_out(task):
            train, _ = divided(train, share, task_file)
        test = detection_test(data["test"], task)
    else:
        train = classification_split(data["train"], current_classes(task))
        test = classification_split(data["test"], seen_classes(task))
        _check_images(train, task, len(data["train"]["images"]), str(task_file))
    for split, made in (("train", train), ("test", test)):
        made["info"] = {"task": task["task"], "split": split, "counts": _counts(made)}
        made["info"]["image_rule"] = _image_rule(task)
        _log_counts(split, made)
        write_json(task_file.parent / f"{split}.json", made)


def held_out(task_file: Path, resources: Path) -> dict[str, Any]:
    """Return the images that a detection task holds out of its training, labelled as those it has.

    Raises:
        InputError: if the data's index is missing, or nothing is held out.
    """
    task = read_task(task_file)
    data = read_split(data_dir(task, resources) / "train.json", "detection")
    train = detection_train(data, task, str(task_file))
    _, held = divided(train, share_held_out(task), task_file)
    held["info"] = {"task": task["task"], "split": "holdout", "counts": _counts(held)}
    return held


def _check_classes(task: Task, index: dict[str, Any], where: Path) -> None:
    """Refuse classes that the data does not declare."""
    declared = index["classes"]
    # those of a model that the stream starts from need not be in the data of what it learns next
    wanted = current_classes(task) if "start" in task else seen_classes(task)
    for name in wanted:
        if name not in declared:
            known = ", ".join(declared[:8]) + (", ..." if len(declared) > 8 else "")
            what = f"class {name!r}, which data {task['data']['id']!r} does not declare"
            raise InputError(what, where, f"one of its classes: {known}{nearest(name, declared)}")
    if task["kind"] != index["kind"]:
        raise InputError(
            f"{index['kind']} data for kind {task['kind']!r}", where, f"kind: {index['kind']}"
        )


def detection_train(data: dict[str, Any], task: Task, where: str) -> dict[str, Any]:
    """Return the training split of a detection task, without "info".

    Ignored (difficult) objects are neither labels nor a reason to keep an image; crowds are labels
    with ``iscrowd`` on images that are used for another object.

    Args:
        data: the prepared COCO-format split.
        task: see ``clclip.core.task``.
        where: for the error message.

    Raises:
        InputError: if no image is left.
    """
    current, previous = current_classes(task), previous_classes(task)
    category_ids = _category_ids(data)
    now = {category_ids[name] for name in current if name in category_ids}
    before = {category_ids[name] for name in previous if name in category_ids}
    objects = [box for box in data["annotations"] if not box["iscrowd"] and not box.get("ignore")]
    shown = {box["image_id"] for box in objects if box["category_id"] in now}
    allowed = _image_filter(data, objects, before, task)
    images = [image for image in data["images"] if image["id"] in shown and allowed(image["id"])]
    ids = {image["id"] for image in images}
    labels = [
        box
        for box in data["annotations"]
        if box["image_id"] in ids and box["category_id"] in now and not box.get("ignore")
    ]
    split = _coco(images, labels, data, current)
    _check_images(split, task, len(shown), where)
    return split


def _image_filter(
    data: dict[str, Any], objects: list[dict[str, Any]], before: set[int], task: Task
) -> Callable[[int], bool]:
    """Return the predicate of the task's image rule over image ids."""
    rule, fractions = _image_rule(task), task["data"].get("fractions")
    if rule == "overlap":
        return lambda _: True
    if rule == "disjoint" and fractions:
        return _dealt(fractions, task)
    if rule == "place":
        return _taken_at(data["images"], task)
    boxes = data["annotations"] if rule == "non_cooccurrence" else objects
    taken = {box["image_id"] for box in boxes if box["category_id"] in before}
    return lambda image_id: image_id not in taken


def _taken_at(images: list[dict[str, Any]], task: Task) -> Callable[[int], bool]:
    """Return whether an image is of the task's place; for ``joint`` every image is.

    Raises:
        InputError: if no image carries a place.
    """
    places = {image["id"]: image.get("place") for image in images}
    if not any(places.values()):
        what = "image_rule place, but no image has a place"
        where = f"data {task['data']['id']!r}"
        raise InputError(what, where, 'images with "place": 1, 2, ..., or another image_rule')
    if trains_all(task):
        return lambda _: True
    return lambda image_id: places[image_id] == task["task"]


def _dealt(fractions: list[float], task: Task) -> Callable[[int], bool]:
    """Return whether an image falls into the task's share of [0, 1), all for all classes."""
    end = math.fsum(fractions)
    start = 0.0 if trains_all(task) else math.fsum(fractions[:-1])
    return lambda image_id: start <= _unit_hash(image_id) < end


def _unit_hash(image_id: int) -> float:
    """Return a number in [0, 1) that depends on the image id alone."""
    digest = hashlib.sha256(f"disjoint/{image_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _image_rule(task: Task) -> str:
    """Return the task's image rule."""
    rule = task["data"].get("image_rule", "overlap")
    if rule not in IMAGE_RULES:
        raise InputError(
            f"image rule {rule!r}", "data.image_rule", f"one of {', '.join(IMAGE_RULES)}"
        )
    return rule


def detection_test(data: dict[str, Any], task: Task) -> dict[str, Any]:
    """Return the test split of a detection task: all images, labels of all seen classes."""
    seen, category_ids = seen_classes(task), _category_ids(data)
    ids = {category_ids[name] for name in seen if name in category_ids}
    labels = [box for box in data["annotations"] if box["category_id"] in ids]
    split = _coco(data["images"], labels, data, seen)
    if "start" in task:
        split["categories"] = _with_unlabelled(split["categories"], seen, data)
    return split


def _with_unlabelled(
    categories: list[dict[str, Any]], seen: list[str], data: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the categories of all seen classes; those that the data lacks get ids behind its own.

    A model may know classes that the data of its next task does not have.
    """
    ids = {category["name"]: category["id"] for category in categories}
    free = 1 + max((category["id"] for category in data["categories"]), default=0)
    for name in seen:
        if name not in ids:
            ids[name], free = free, free + 1
    return [{"id": ids[name], "name": name} for name in seen]


def _coco(
    images: list[dict[str, Any]],
    labels: list[dict[str, Any]],
    data: dict[str, Any],
    names: list[str],
) -> dict[str, Any]:
    """Return a COCO-format split in the order of ids; categories in the order of ``names``."""
    category_ids = _category_ids(data)
    return {
        "images": sorted(images, key=lambda image: image["id"]),
        "annotations": sorted(labels, key=lambda box: (box["image_id"], box["id"])),
        "categories": [
            {"id": category_ids[name], "name": name} for name in names if name in category_ids
        ],
    }


def _category_ids(data: dict[str, Any]) -> dict[str, int]:
    """Return {class name: original category id}."""
    return {category["name"]: category["id"] for category in data["categories"]}


def classification_split(data: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the images of the classes ``names``, without "info"."""
    wanted = set(names)
    images = sorted(
        (i for i in data["images"] if i["label"] in wanted), key=lambda image: image["id"]
    )
    return {"classes": list(names), "images": images}


def _check_images(split: dict[str, Any], task: Task, shown: int, where: str) -> None:
    """Refuse a task without a training image, naming the fix."""
    if split["images"]:
        return
    names = ", ".join(repr(name) for name in current_classes(task))
    what = f"no training image for task {task['task']} ({names})"
    rule = _image_rule(task)
    if has_boxes(task) and shown and rule != "overlap":
        what = f"{what}: image_rule {rule} leaves none of {shown} images"
        other = "images of as many places as tasks" if rule == "place" else "another class order"
        raise InputError(what, where, f"data.image_rule: overlap, or {other}")
    raise InputError(what, where, "classes with training images, or this task merged with another")


def _counts(split: dict[str, Any]) -> dict[str, int]:
    """Return {class: instances or images}, without crowds and ignored boxes."""
    if "annotations" not in split:
        counts = dict.fromkeys(split["classes"], 0)
        for image in split["images"]:
            counts[image["label"]] += 1
        return counts
    counts = {category["name"]: 0 for category in split["categories"]}
    names = {category["id"]: category["name"] for category in split["categories"]}
    for box in split["annotations"]:
        counts[names[box["category_id"]]] += not box["iscrowd"] and not box.get("ignore")
    return counts


def _log_counts(split: str, made: dict[str, Any]) -> None:
    """Log the sizes, and warn of classes without instances."""
    counts = made["info"]["counts"]
    logger.info("%s: %d images, %d instances", split, len(made["images"]), sum(counts.values()))
    if empty := [name for name, count in counts.items() if not count]:
        logger.warning("%s: no instance of %s", split, ", ".join(empty))
