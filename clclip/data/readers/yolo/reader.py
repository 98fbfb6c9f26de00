"""Reading a YOLO data set as annotated splits.

Category ids are the class indices, image ids are 1.. by name over both splits. Labels are fractions
of the image as EXIF turns it, which is how tools show it (``data.exif: ignore``: of the stored
pixels), so the first bytes of every image are read for its size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.data.images import header
from clclip.data.readers.annotated import NO_BOX, Annotated, check_file_name
from clclip.data.readers.yolo.declared import fit_names
from clclip.data.readers.yolo.label_file import Labels, read_labels
from clclip.data.readers.yolo.layout import Layout, orphans, read_layout

_PIXELS = 2.0  # a fraction beyond is meant in pixels, whatever tools let stick out
Size = tuple[int, int]


def image_home(spec: Mapping[str, Any]) -> Path:
    """Return the folder that names of images start from: the root, if none lies outside.

    Raises:
        InputError: as ``read_layout``.
    """
    return read_layout(spec).home


def annotation_files(spec: Mapping[str, Any]) -> list[Path]:
    """Return every file whose bytes are annotations: the declaration, the lists, the labels.

    Raises:
        InputError: as ``read_layout``.
    """
    layout = read_layout(spec)
    labels = sorted(map(Path, layout.labels.values()))
    return [*layout.declared.files, *layout.lists, *labels]


def read_splits(spec: Mapping[str, Any]) -> dict[str, Annotated]:
    """Read both splits of a data spec of format yolo.

    Raises:
        InputError: if the data set's layout or a label is wrong, no image of a split has a label
            file, or all boxes of a split are in pixels.
    """
    layout = read_layout(spec)
    every = sorted({name for names in layout.images.values() for name in names})
    ids = {name: n for n, name in enumerate(every, 1)}
    sizes = _sizes(every, spec.get("exif") != "ignore")
    for split, names in layout.images.items():
        _check_labelled(split, names, layout)
    declared = layout.declared
    labels = {
        name: read_labels(Path(label), declared.names, declared.file, declared.keypoints)
        for name, label in layout.labels.items()
        if name in ids
    }
    classes, notes = fit_names(declared, {k for one in labels.values() for k in one.classes})
    splits = {
        split: _split(split, names, layout, labels, classes, ids, sizes)
        for split, names in layout.images.items()
    }
    splits["train"].notes += notes
    return splits


def _sizes(images: Iterable[str], exif: bool) -> dict[str, Size]:
    """Return (width, height) of the images that can be read; ``prepare`` reports the others."""

    def look(name: str) -> tuple[str, Size | None]:
        try:
            return name, header(Path(name)).size(exif)
        except (InputError, OSError, ValueError):
            return name, None

    with ThreadPoolExecutor(4) as pool:
        return {name: size for name, size in pool.map(look, images) if size}


def _split(
    split: str,
    names: list[str],
    layout: Layout,
    labels_of: Mapping[str, Labels],
    classes: Mapping[int, str],
    ids: Mapping[str, int],
    sizes: Mapping[str, Size],
) -> Annotated:
    """Put one split together."""
    declared, home = layout.declared, layout.home
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    places: list[str] = []
    bad: dict[int, InputError] = {}
    notes: list[tuple[str, str]] = []
    pixels = 0
    for name in names:
        file_name = check_file_name(os.path.relpath(name, home), f"{home}")
        width, height = sizes.get(name, (None, None))
        images.append({"id": ids[name], "file_name": file_name, "width": width, "height": height})
        if name not in labels_of:
            continue
        label, labels = Path(layout.labels[name]), labels_of[name]
        notes += _notes(labels, label)
        if name not in sizes:
            continue  # its boxes cannot be computed without its size
        for n, (index, box) in enumerate(zip(labels.classes, labels.boxes, strict=True)):
            if box is None:
                bad[len(annotations)] = labels.problems[n]
            pixels += box is not None and max(map(abs, box)) > _PIXELS
            places.append(f"{label}: line {labels.lines[n]}")
            annotations.append(
                _annotation(len(annotations) + 1, ids[name], index, box, sizes[name])
            )
    if annotations and pixels == len(annotations):
        what = f"all {pixels} boxes of {split} far beyond 0..1"
        raise InputError(what, places[0], "boxes as fractions of the image, not in pixels")
    return Annotated(
        source=declared.file,
        folder=home,
        images=images,
        annotations=annotations,
        categories=[{"id": k, "name": name} for k, name in classes.items()],
        where_image=lambda n: f"the {split} images",
        where_box=lambda n: places[n],
        bad_boxes=bad,
        renamed=any(declared.names[k] != name for k, name in classes.items()),
        measured=True,
        notes=notes + (_layout_notes(layout, names) if split == "train" else []),
    )


def _check_labelled(split: str, names: list[str], layout: Layout) -> None:
    """Refuse a split none of whose images has a label file."""
    if names and not any(name in layout.labels for name in names):
        what = f"no label file for any of {len(names)} {split} images"
        expected = "labels/x.txt for images/x.jpg, or x.txt beside it (empty: no objects)"
        raise InputError(what, os.path.dirname(names[0]), expected)


def _annotation(
    number: int, image: int, index: int, box: tuple[float, ...] | None, size: Size
) -> dict[str, Any]:
    """Return one object in pixels."""
    width, height = size
    pixels = NO_BOX
    if box is not None:
        scaled = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        pixels = [round(value, 6) for value in scaled]  # fractions have six decimals, or fewer
    return {
        "id": number,
        "image_id": image,
        "category_id": index,
        "bbox": pixels,
        "area": pixels[2] * pixels[3],
        "iscrowd": 0,
    }


def _notes(labels: Labels, label: Path) -> list[tuple[str, str]]:
    """Return what is odd about one label file."""
    notes = []
    if labels.extra:
        warning = "label file with a last number that is not read (confidence or track)"
        notes.append((warning, f"{label}: line {labels.extra}"))
    if labels.twice:
        notes.append(("label line that stands there twice", f"{label}: line {labels.twice}"))
    return notes


def _layout_notes(layout: Layout, train: list[str]) -> list[tuple[str, str]]:
    """Return what is odd about the files."""
    notes = [("label file without an image", path) for path in orphans(layout)]
    notes += [("split that is not read", f"{s!r} (data.test chooses)") for s in layout.unused]
    bare = [name for name in train if name not in layout.labels]
    notes += [("training image without a label file, so without objects", name) for name in bare]
    return notes
