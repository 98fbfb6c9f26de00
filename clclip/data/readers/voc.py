"""Reading a PASCAL VOC devkit (2007, 2012, or a user's own in that layout) as annotated splits.

Everything about classes is derived from the XML, so the per-class lists of ``ImageSets/Main`` are
not needed. VOC pixels are counted from 1 and the maximum belongs to the box: x = xmin - 1, width =
xmax - xmin + 1.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError, nearest
from clclip.data.images import IMAGE_SUFFIXES
from clclip.data.readers.annotated import Annotated, check_class_name, check_file_name

VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()

_CORNERS = ("xmin", "ymin", "xmax", "ymax")

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
    found = [
        p for pattern in (f"VOC{year}", f"VOCdevkit/VOC{year}") for p in sorted(root.glob(pattern))
    ]
    found = [p for p in found if (p / "Annotations").is_dir()]
    if not found:
        what = f"no VOC{'' if year == '*' else year} with a folder Annotations"
        shown = "2007" if year == "*" else year
        raise InputError(what, root, f"VOCdevkit/VOC{shown}/{{Annotations,ImageSets,JPEGImages}}")
    if len(found) > 1 and year == "*":
        names = ", ".join(p.name for p in found)
        raise InputError(f"several data sets ({names})", root, "data.year to say which")
    return found[0]


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

    They have no suffix; one that a list of the user's own gives is dropped.
    """
    annotations = devkit_folder(spec) / "Annotations"
    files = list_files(spec, split)
    per_class = files[0].stem != split_name(spec, split)
    stems: dict[str, str] = {}
    for path in files:
        for n, line in enumerate(_read_text(path).splitlines(), 1):
            stem = line.strip()
            if per_class:  # drop the flag (1, 0 = difficult only, -1 = absent): XML says the same
                stem = re.sub(r"\s+-?[01]$", "", stem)
            if not stem:
                continue
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

    Category ids are 1.. in alphabetical order over the 20 VOC classes, or over the names found
    where one of them is not a VOC class. Image ids are the digits of official names, else 1.. by
    name.
    """
    folder = devkit_folder(spec)
    stems = {split: read_stems(spec, split) for split in ("train", "test")}
    every = sorted({stem for names in stems.values() for stem in names})
    objects = {stem: _read_xml(folder / "Annotations" / f"{stem}.xml") for stem in every}
    names = {box["name"] for _, boxes in objects.values() for box in boxes}
    classes = VOC_CLASSES if names <= set(VOC_CLASSES) else sorted(names)
    official = all(_OFFICIAL_STEM.fullmatch(stem) for stem in every)
    ids = {stem: int(stem.replace("_", "")) if official else n for n, stem in enumerate(every, 1)}
    files = _image_files(folder / "JPEGImages", every)
    return {
        split: _build(folder, names, files, ids, objects, classes) for split, names in stems.items()
    }


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
    images, annotations, where_box = [], [], []
    for stem in stems:
        xml = folder / "Annotations" / f"{stem}.xml"
        (width, height), boxes = objects[stem]
        name = files.get(stem, f"{stem}.jpg")
        images.append({"id": ids[stem], "file_name": name, "width": width, "height": height})
        for n, box in enumerate(boxes):
            x, y, w, h = box["bbox"]
            flags = {"ignore": 1, "difficult": 1} if box["difficult"] else {}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": ids[stem],
                    "category_id": category[box["name"]],
                    "bbox": [x, y, w, h],
                    "area": w * h,
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
    )


def _image_files(folder: Path, stems: Iterable[str]) -> dict[str, str]:
    """Return {name without suffix: file name} of the image folder and the sub-folders of ``stems``.

    A file that is no image by its suffix stands back behind one that is.

    Raises:
        InputError: if the folder is missing or one name has two suffixes.
    """
    if not folder.is_dir():
        raise InputError("no image folder", folder, "the folder JPEGImages of a VOC data set")
    files: dict[str, str] = {}
    for below in sorted({os.path.dirname(stem) for stem in stems} | {""}):
        home = folder / below
        names = os.listdir(home) if home.is_dir() else []
        for name in sorted(names, key=lambda name: (not _is_image(name), name)):
            stem = os.path.join(below, Path(name).stem)
            if stem not in files:
                files[stem] = os.path.join(below, name)
            elif _is_image(name):
                what = f"two images {files[stem]!r} and {name!r}"
                raise InputError(what, home, "one image per name")
    return files


def _is_image(name: str) -> bool:
    """Return whether a file is an image by its suffix."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _read_xml(path: Path) -> tuple[tuple[int | None, int | None], list[dict[str, Any]]]:
    """Read one annotation file.

    Returns:
        (width, height), None where they are left out or 0; and {"name", "bbox" [x, y, w, h],
        "difficult"} per object.

    Raises:
        InputError: on anything that is not a VOC annotation.
    """
    text = _read_bytes(path)
    markup = text.replace(b"\0", b"")  # of UTF-16 and UTF-32 too
    if b"<!DOCTYPE" in markup or b"<!ENTITY" in markup:  # entities could expand without end
        raise InputError("a DOCTYPE or ENTITY", path, "plain VOC XML")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"not XML ({error})", path, "a complete VOC annotation file") from None
    if root.tag != "annotation":
        raise InputError(f"root element <{root.tag}>", path, "<annotation>")
    size = tuple(
        _length(root.findtext(f"size/{key}"), f"{path}: size.{key}") for key in ("width", "height")
    )
    return size, [
        _read_object(node, f"{path}: object[{n}]") for n, node in enumerate(root.findall("object"))
    ]


def _read_object(node: ElementTree.Element, where: str) -> dict[str, Any]:
    """Return the class, the box and the difficult flag of one <object>."""
    name = check_class_name((node.findtext("name") or "").strip(), f"{where}.name")
    difficult = (node.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise InputError(f"difficult {difficult!r}", f"{where}.difficult", "0 or 1")
    corners = [_number(node.findtext(f"bndbox/{key}"), f"{where}.bndbox.{key}") for key in _CORNERS]
    left, top, right, bottom = corners
    # Exchanged corners stay a negative size: a bad box, whatever the inclusive maximum adds.
    width, height = right - left + (right >= left), bottom - top + (bottom >= top)
    box = [left - 1, top - 1, width, height]
    return {"name": name, "bbox": box, "difficult": difficult == "1"}


def _number(text: str | None, where: str) -> float:
    """Return a coordinate; NaN and infinity pass, they are bad boxes, not bad files."""
    try:
        return float(text or "")
    except ValueError:
        found = "nothing" if text is None else repr(text.strip())
        raise InputError(found, where, "a number of pixels") from None


def _length(text: str | None, where: str) -> int | None:
    """Return a recorded width or height, None where it is left out or 0."""
    if text is None or text.strip() in ("", "0"):
        return None
    number = _number(text, where)
    if not 1 <= number < 1e9 or number != int(number):
        raise InputError(f"{text.strip()!r}", where, "a positive whole number of pixels")
    return int(number)


def _read_text(path: Path) -> str:
    """Read a text file in UTF-8."""
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", path, "UTF-8 text") from None


def _read_bytes(path: Path) -> bytes:
    """Read a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", path, "one XML per listed image") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path, "a readable file") from None
