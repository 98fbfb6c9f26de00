"""One labelled set of images that stands alone, without a split: a COCO file or YOLO's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.data.checks.boxes import clean_boxes
from clclip.data.checks.findings import Findings
from clclip.data.checks.scale import check_scale
from clclip.data.images import inspect
from clclip.data.readers import coco
from clclip.data.readers.annotated import Annotated
from clclip.data.readers.yolo import reader as yolo
from clclip.data.readers.yolo.layout import labelled_split


@dataclass(frozen=True)
class LabelledSet:
    """Images with their boxes.

    Attributes:
        source: the file that was given.
        paths: image id -> its file.
        dataset: COCO: images with width and height as they are seen (turned by EXIF), annotations
            inside them, categories.
    """

    source: Path
    paths: dict[int, Path]
    dataset: dict[str, Any]


def read_labelled(source: Path, images: Path | None = None) -> LabelledSet:
    """Read and check a labelled set.

    Args:
        source: a COCO json, or the folder or ``data.yaml`` of a YOLO data set, whose val split
            (else test, else train) is taken.
        images: folder of a COCO file's images; None: beside the file, or ``images`` there.

    Raises:
        InputError: if an annotation or an image is wrong.
    """
    annotated = _of_yolo(source) if _is_yolo(source) else _of_coco(source, images)
    check_scale(annotated, "data", Findings())
    if not annotated.images:
        raise InputError("no image", source, "at least one")
    sized, sizes = [], {}
    for n, image in enumerate(annotated.images):
        path = annotated.folder / image["file_name"]
        try:
            sizes[image["id"]] = inspect(path).size(True)
        except InputError as error:
            what = f"{error.what}, listed at {annotated.where_image(n)}"
            raise InputError(what, error.where, error.expected) from None
        width, height = sizes[image["id"]]
        recorded = (image["width"], image["height"])
        if None not in recorded and recorded not in ((width, height), (height, width)):
            what = f"{recorded[0]} x {recorded[1]} recorded for an image of {width} x {height}"
            raise InputError(what, annotated.where_image(n), "boxes in the pixels of the image")
        sized.append({**image, "width": width, "height": height})
    boxes = clean_boxes(annotated, sizes, "data", "fail", Findings())
    dataset = {"images": sized, "annotations": boxes, "categories": annotated.categories}
    paths = {image["id"]: annotated.folder / image["file_name"] for image in sized}
    return LabelledSet(source, paths, dataset)


def _is_yolo(source: Path) -> bool:
    return source.is_dir() or source.suffix in (".yaml", ".yml")


def _of_yolo(source: Path) -> Annotated:
    """Return the val split of a YOLO data set, else its test split, else all that there is."""
    folder = source if source.is_dir() else source.parent
    spec = {"format": "yolo", "root": str(folder)}
    spec |= {} if source.is_dir() else {"class_names": source.name}
    split = labelled_split(spec)
    return yolo.read_splits(spec | {"train": split, "test": split})["test"]


def _of_coco(source: Path, images: Path | None) -> Annotated:
    """Return a COCO file's images and boxes."""
    if images is not None and not images.is_dir():
        raise InputError(f"no folder {str(images)!r}", "--images", "the folder of the images")
    annotated = coco.read_coco(source, source.parent)
    names = [image["file_name"] for image in annotated.images]
    if images is None:
        spec = {"format": "coco", "root": str(source.parent), "data": source.name}
        annotated.folder = coco.image_folder(spec, "data", names)
    else:
        annotated.folder = images
    return annotated


def missing_classes(labelled: LabelledSet, classes: Sequence[str]) -> list[str]:
    """Return the classes that no object of a labelled set shows."""
    ids = {category["id"]: category["name"] for category in labelled.dataset["categories"]}
    shown = {
        ids[box["category_id"]]
        for box in labelled.dataset["annotations"]
        if not box.get("iscrowd") and not box.get("ignore")
    }
    return [name for name in classes if name not in shown]
