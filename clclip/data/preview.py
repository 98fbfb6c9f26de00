"""The splits as ``clclip prepare`` writes them, told before it runs: annotations, not images.

``clclip describe`` counts on them by the very functions that split. Boxes are cleaned against the
recorded sizes, which ``prepare`` holds against the images; an image is opened only where the size
that decides about a bad box is not sure: not recorded, or perhaps with width and height exchanged.
"""

from __future__ import annotations

from os.path import isfile, join
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.data.checks.boxes import clean_boxes, fault
from clclip.data.checks.findings import Findings
from clclip.data.checks.verify import choose_view
from clclip.data.images import inspect
from clclip.data.index import read_index, read_split
from clclip.data.readers import folder
from clclip.data.readers.annotated import Annotated
from clclip.data.version import is_downloaded, read_annotated

_ANY = (10**9, 10**9)  # where no size is recorded: only what is wrong in any image is


def preview(
    spec: dict[str, Any], where: object, resources: Path = Path("resources")
) -> dict[str, dict[str, Any]] | None:
    """Return {"train": split, "test": split} as ``clclip.data.index.read_split`` would.

    Args:
        spec: a data spec with its id.
        where: the experiment's file, for messages.
        resources: folder of prepared data; what lies there is taken instead of the annotations.

    Returns:
        The splits; None if they cannot be told: data that is missing, to be downloaded, generated,
        or CIFAR-100.

    Raises:
        InputError: for what ``prepare`` would refuse in the annotations, for a missing image, and
            for a split without an image.
    """
    home = resources / "data" / spec["id"]
    if (home / "index.json").is_file():
        kind = read_index(home)["kind"]
        return {split: read_split(home / f"{split}.json", kind) for split in ("train", "test")}
    if spec["id"].endswith("-missing") or not is_downloaded(spec):
        return None
    if spec["format"] == "folder":
        classes, found = folder.read_splits(spec)
        return {split: {"classes": classes, "images": images} for split, images in found.items()}
    if spec["format"] not in ("coco", "voc"):
        return None
    return {
        split: _detection(annotated, split, spec, where)
        for split, annotated in read_annotated(spec).items()
    }


def _detection(
    annotated: Annotated, split: str, spec: dict[str, Any], where: object
) -> dict[str, Any]:
    """Return one split of COCO or VOC."""
    home = str(annotated.folder)
    present = [i for i in annotated.images if isfile(join(home, i["file_name"]))]
    absent = len(annotated.images) - len(present)
    if absent and (spec.get("on_bad_image") or "fail") == "fail":
        known = {image["id"] for image in present}
        first = next(i["file_name"] for i in annotated.images if i["id"] not in known)
        what = f"{absent} of {len(annotated.images)} {split} images are missing, e.g. {first!r}"
        expected = "all images, or data.on_bad_image: skip"
        raise InputError(what, f"{where}: {annotated.folder}", expected)
    if not present:
        raise InputError(f"no {split} image", annotated.source, "at least one image")
    sizes = _sizes(annotated, present, spec)
    on_bad_box = spec.get("on_bad_box") or "fail"
    return {
        "images": [image for image in present if image["id"] in sizes],
        "annotations": clean_boxes(annotated, sizes, split, on_bad_box, Findings()),
        "categories": annotated.categories,
    }


def _sizes(
    annotated: Annotated, images: list[dict[str, Any]], spec: dict[str, Any]
) -> dict[int, tuple[int, int]]:
    """Return {image id: the size its boxes are held against}."""
    recorded = {image["id"]: (image["width"], image["height"]) for image in images}
    sizes = {number: _ANY if None in size else size for number, size in recorded.items()}
    boxes: dict[int, list[list[float]]] = {}
    for annotation in annotated.annotations:
        boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    for image in images:
        number, size = image["id"], sizes[image["id"]]
        wrong = [box for box in boxes.get(number, ()) if fault(box, *size)]
        square = size is not _ANY and size[0] == size[1]
        if not wrong or square or (size is not _ANY and _any_fault(wrong, size[::-1])):
            continue  # all is well, or wrong in either view
        try:
            facts = inspect(annotated.folder / image["file_name"])
            exif, _ = choose_view(facts, recorded[number], boxes[number])
        except InputError:
            if (spec.get("on_bad_image") or "fail") == "fail":
                raise
            del sizes[number]
            continue
        sizes[number] = facts.size(exif)
    return sizes


def _any_fault(boxes: list[list[float]], size: tuple[int, int]) -> bool:
    """Return whether a box is wrong in an image of (width, height)."""
    return any(fault(box, *size) for box in boxes)
