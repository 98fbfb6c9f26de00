"""Reading a PASCAL VOC devkit (2007, 2012, or a user's own in that layout) as annotated splits.

Everything about classes is derived from the XML, so the per-class lists of ``ImageSets/Main`` are
not needed. VOC pixels are counted from 1 and the maximum belongs to the box: x = xmin - 1, width =
xmax - xmin + 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError, nearest
from clclip.core.names import spelt
from clclip.data.images import IMAGE_SUFFIXES
from clclip.data.readers.annotated import Annotated, check_file_name, relative_name
from clclip.data.readers.links import broken_link
from clclip.data.readers.voc_xml import read_text, read_xml

VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()

# Official names are all digits, "000005" or "2008_000002": the digits are the image id.
_OFFICIAL_STEM = re.compile(r"\d{6}|\d{4}_\d{6}")


def devkit_folder(spec: dict[str, Any]) -> Path:
    """Return the folder that holds Annotations, ImageSets and JPEGImages.

    ``root`` may be that folder, the devkit with ``VOC2007`` in it, or the folder of the devkit.

    Raises:
        InputError: if there is none, or several and no year.
    """
    root = Path(spec["root"])
    if (root / "Annotations").is_dir():
        return root
    year = str(spec.get("year") or "*")
    folders = [
        p for pattern in (f"VOC{year}", f"VOCdevkit/VOC{year}") for p in sorted(root.glob(pattern))
    ]
    folders = [p for p in folders if (p / "Annotations").is_dir()]
    if not folders:
        what = f"no VOC{'' if year == '*' else year} with a folder Annotations"
        shown = "2007" if year == "*" else year
        raise InputError(what, root, f"VOCdevkit/VOC{shown}/{{Annotations,ImageSets,JPEGImages}}")
    if len(folders) > 1 and year == "*":
        names = ", ".join(p.name for p in folders)
        raise InputError(f"several data sets ({names})", root, "data.year to say which")
    return folders[0]


def split_name(spec: dict[str, Any], split: str) -> str:
    """Return the name of the image list: the spec's, else trainval/test, else (2012) train/val."""
    if spec.get(split):
        return str(spec[split])
    lists = devkit_folder(spec) / "ImageSets" / "Main"
    public_test = (lists / "test.txt").exists() or any(lists.glob("*_test.txt"))
    names = ("trainval", "test") if public_test else ("train", "val")
    return names[split == "test"]


def list_files(spec: dict[str, Any], split: str) -> list[Path]:
    """Return the file that lists the images of a split, or the per-class lists whose union it is.

    Raises:
        InputError: if there is neither.
    """
    folder = devkit_folder(spec) / "ImageSets" / "Main"
    name = check_file_name(split_name(spec, split), f"data.{split}")
    whole = folder / f"{name}.txt"
    if whole.is_file():
        return [whole]
    per_class = sorted(p for p in folder.glob("*.txt") if p.stem.endswith(f"_{name}"))
    if not per_class:
        known = sorted(p.stem for p in folder.glob("*.txt") if "_" not in p.stem)
        raise InputError(
            f"no image list {name!r}{nearest(name, known)}",
            folder,
            f"{name}.txt with one image name per line",
        )
    return per_class


def read_stems(spec: dict[str, Any], split: str) -> list[str]:
    """Return the image names of a split, in the order of its list.

    They have no suffix; one that a list of the user's own gives is dropped, and so is an absolute
    path to the image folder.
    """
    devkit = devkit_folder(spec)
    annotations, images = devkit / "Annotations", devkit / "JPEGImages"
    files = list_files(spec, split)
    per_class = files[0].stem != split_name(spec, split)
    stems: dict[str, str] = {}
    for path in files:
        for n, line in enumerate(read_text(path).splitlines(), 1):
            stem = line.strip()
            if per_class:  # drop the flag (1, 0 = difficult only, -1 = absent): XML says the same
                stem = re.sub(r"\s+-?[01]$", "", stem)
            if not stem:
                continue
            stem = relative_name(stem, images)
            if _is_image(stem) and not (annotations / f"{stem}.xml").is_file():
                stem = stem.removesuffix(Path(stem).suffix)
            where = f"{path}: line {n}"
            if stem in stems and not per_class:
                raise InputError(f"image {stem!r} listed twice", where, "each image once")
            stems[check_file_name(stem, where)] = where
    if not stems:
        raise InputError("no image", files[0], "one image name per line")
    return list(stems)


def annotation_files(spec: dict[str, Any]) -> list[Path]:
    """Return every file whose bytes are annotations: the lists and the XML of the listed images."""
    folder = devkit_folder(spec) / "Annotations"
    files: dict[Path, None] = {}
    for split in ("train", "test"):
        files.update(dict.fromkeys(list_files(spec, split)))
        files.update((folder / f"{stem}.xml", None) for stem in read_stems(spec, split))
    return list(files)


def is_whole(spec: dict[str, Any]) -> bool:
    """Return whether both lists are there, and the annotation and the image of all they list.

    A download that was interrupted leaves the folders, and a part of the files.
    """
    try:
        folder = devkit_folder(spec)
        stems = {stem for split in ("train", "test") for stem in read_stems(spec, split)}
        files = _image_files(folder / "JPEGImages", stems)
    except InputError:
        return False
    return all(stem in files and (folder / f"Annotations/{stem}.xml").is_file() for stem in stems)


def read_splits(spec: dict[str, Any]) -> dict[str, Annotated]:
    """Read both splits of a data spec of format voc.

    Category ids are 1.. in alphabetical order over the 20 VOC classes, or over the names that occur
    where one of them is not a VOC class. Image ids are the digits of official names, else 1.. by
    name.
    """
    folder = devkit_folder(spec)
    stems = {split: read_stems(spec, split) for split in ("train", "test")}
    every = sorted({stem for names in stems.values() for stem in names})
    objects = {stem: read_xml(folder / "Annotations" / f"{stem}.xml") for stem in every}
    names = _one_spelling(folder, objects)
    classes = VOC_CLASSES if names <= set(VOC_CLASSES) else sorted(names)
    official = all(_OFFICIAL_STEM.fullmatch(stem) for stem in every)
    ids = {stem: int(stem.replace("_", "")) if official else n for n, stem in enumerate(every, 1)}
    files = _image_files(folder / "JPEGImages", every)
    return {
        split: _build(folder, listed, files, ids, objects, classes)
        for split, listed in stems.items()
    }


def _one_spelling(folder: Path, objects: dict[str, Any]) -> set[str]:
    """Return the class names of all objects; each must be written in one way.

    Raises:
        InputError: if two names that are written differently fold to one class.
    """
    written: dict[str, tuple[str, str]] = {}
    for stem, (_, boxes) in objects.items():
        for n, box in enumerate(boxes):
            first, place = written.setdefault(box["name"], (box["written"], stem))
            if first != box["written"]:
                here = spelt(box["written"])
                what = f"class {box['name']!r} written {here} here and {spelt(first)}"
                where = f"{folder / 'Annotations' / stem}.xml: object[{n}].name"
                raise InputError(f"{what} in {place}.xml", where, "one spelling")
    return set(written)


def _build(
    folder: Path,
    stems: list[str],
    files: dict[str, str],
    ids: dict[str, int],
    objects: dict[str, tuple[tuple[int | None, int | None], list[dict[str, Any]]]],
    classes: list[str],
) -> Annotated:
    """Put one split together."""
    category = {name: k for k, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    where_box: list[tuple[Path, int]] = []
    bad_boxes: dict[int, InputError] = {}
    renamed = False
    for stem in stems:
        xml = folder / "Annotations" / f"{stem}.xml"
        (width, height), boxes = objects[stem]
        name = files.get(stem, f"{stem}.jpg")
        images.append({"id": ids[stem], "file_name": name, "width": width, "height": height})
        for n, box in enumerate(boxes):
            flags = {"ignore": 1, "difficult": 1} if box["difficult"] else {}
            renamed |= box["name"] != box["written"]
            if box["problem"]:
                bad_boxes[len(annotations)] = box["problem"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": ids[stem],
                    "category_id": category[box["name"]],
                    "bbox": list(box["bbox"]),
                    "area": box["bbox"][2] * box["bbox"][3],
                    "iscrowd": 0,
                    **flags,
                }
            )
            where_box.append((xml, n))
    return Annotated(
        source=folder,
        folder=folder / "JPEGImages",
        images=images,
        annotations=annotations,
        categories=[{"id": k, "name": name} for name, k in category.items()],
        where_image=lambda n: f"{folder / 'Annotations' / stems[n]}.xml",
        where_box=lambda n: f"{where_box[n][0]}: object[{where_box[n][1]}].bndbox",
        bad_boxes=bad_boxes,
        renamed=renamed,
        corners=True,
    )


def _image_files(folder: Path, stems: Iterable[str]) -> dict[str, str]:
    """Return {name without suffix: file name} of the image folder and the sub-folders of ``stems``.

    A file that is no image by its suffix stands back behind one that is.

    Raises:
        InputError: if the folder is missing or one name of ``stems`` has two suffixes.
    """
    if not folder.is_dir():
        broken = f" but a {link}" if (link := broken_link(folder)) else ""
        expected = "the folder JPEGImages of a VOC data set"
        raise InputError(f"no image folder{broken}", folder, expected)
    files: dict[str, str] = {}
    listed = set(stems)
    for below in sorted({os.path.dirname(stem) for stem in listed} | {""}):
        home = folder / below
        names = os.listdir(home) if home.is_dir() else []
        for name in sorted(names, key=lambda name: (not _is_image(name), name)):
            stem = os.path.join(below, Path(name).stem)
            if stem not in files:
                files[stem] = os.path.join(below, name)
            elif _is_image(name) and stem in listed:
                what = f"two images {files[stem]!r} and {name!r}"
                raise InputError(what, home, "one image per name")
    return files


def _is_image(name: str) -> bool:
    """Return whether a file is an image by its suffix."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES
