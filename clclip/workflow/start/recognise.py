"""Which of the known layouts a folder of images is in: its ``data`` section, as one would write it.

A folder is YOLO if it declares classes as YOLO's tools do or has label files, COCO if a JSON file
holds images, annotations and categories, VOC if it holds ``Annotations`` and ``ImageSets``, and
else one folder a class. The readers then say what is wrong with it; nothing is checked here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from clclip.config.yaml_files import read_yaml
from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.data.images import IMAGE_SUFFIXES
from clclip.data.readers.class_folders import sub_folders
from clclip.data.readers.yolo.declared import read_declared

FORMATS = ("coco", "voc", "yolo", "folder")
TEST_NAMES = ("test", "val", "valid", "validation")
VOC_YEARS = ("2007", "2012")
DRAWN = {"test_fraction": 0.2, "split_seed": 0}
_COCO_KEYS = ("images", "annotations", "categories")
_YOLO_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "obj.data", "obj.names")
_LOOKED_AT = 2000  # entries of a folder that are looked at


def recognise(folder: Path, chosen: str | None = None) -> dict[str, Any]:
    """Return the ``data`` section of a folder, without its ``root``.

    Args:
        folder: the data set.
        chosen: the format, where more than one would fit.

    Raises:
        InputError: if it is no folder, cannot be read, or is in no layout that is known.
    """
    if not folder.is_dir():
        raise InputError("no such folder", folder, "the folder of a data set")
    check_not_top(folder)
    tried = {"yolo": _yolo, "coco": _coco, "voc": _voc, "folder": _folder}
    for name, look in tried.items():
        try:
            if chosen in (None, name) and (keys := look(folder)) is not None:
                return {"format": name} | keys
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise InputError(what, error.filename or folder, "a data set to be read") from None
    expected = {
        "coco": "a JSON file of training images and one of test images, in it or `annotations/`",
        "voc": "Annotations, ImageSets and JPEGImages, or a VOCdevkit with one year",
        "yolo": "data.yaml, obj.data or classes.txt, or images/ beside labels/",
        "folder": "a folder of images for each class, or train/CLASS and test/CLASS",
    }
    what = "no data set that is known" if chosen is None else f"no data set of format {chosen}"
    raise InputError(what, folder, expected[chosen] if chosen else "; ".join(expected.values()))


def box_format(folder: Path) -> str | None:
    """Return the format of a folder's boxes, None where it holds none in a layout that is known."""
    for name, look in (("yolo", _yolo), ("coco", _coco), ("voc", _voc)):
        try:
            if look(folder) is not None:
                return name
        except InputError:
            return name  # it is one, with something wrong in it
        except OSError:
            return None  # whoever reads the folder says so
    return None


def check_not_top(folder: Path) -> None:
    """Refuse ``/``: all that a machine holds would be walked.

    Raises:
        InputError: if the folder is it.
    """
    if folder.resolve() == Path(folder.resolve().anchor):
        raise InputError("the top of the file system", folder, "the folder of a data set")


def _coco(folder: Path) -> dict[str, Any] | None:
    """Return the COCO files of both splits, or None."""
    files = [path for path in _json_files(folder) if _is_coco(path)]
    if not files:
        return None
    names = {path.relative_to(folder).as_posix(): path for path in files}
    trains = [name for name in names if "train" in name.lower()]
    if len({os.path.dirname(name) for name in trains}) > 1:
        what = f"several data sets ({', '.join(trains)})"
        raise InputError(what, folder, "the folder of one of them")
    train = next(iter(trains), None)
    held = (n for word in TEST_NAMES for n in names if word in n.lower() and n != train)
    test = next(held, None)
    if train is None and test is not None and len(names) == 2:
        train = next(name for name in names if name != test)
    if train is None or test is None:
        what = f"COCO annotations in {', '.join(names)}"
        expected = "one file with `train` in its path and one with `test` or `val`"
        raise InputError(what, folder, expected)
    images = {} if (folder / "images").is_dir() else {"images": "."}
    return images | {"train": train, "test": test}


def _json_files(folder: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder and of those in it, sorted; none of hidden folders."""
    yield from sorted(folder.glob("*.json"))
    for name in sorted(entry.name for entry in _entries(folder) if entry.is_dir()):
        if not name.startswith("."):
            yield from sorted((folder / name).glob("*.json"))


def _is_coco(path: Path) -> bool:
    """Tell whether a file holds boxes in COCO's form; captions and key points of persons do not."""
    try:
        content = read_json(path)
    except InputError:
        return False
    if not isinstance(content, dict) or not all(key in content for key in _COCO_KEYS):
        return False
    boxes = content["annotations"]
    if not isinstance(boxes, list) or not boxes:
        return True  # the reader says what is wrong with it
    return any(isinstance(box, dict) and "bbox" in box for box in boxes)


def _voc(folder: Path) -> dict[str, Any] | None:
    """Return the keys of a VOC devkit or of one of its years, or None."""
    keys: dict[str, Any] = {}
    home = folder
    if not (folder / "Annotations").is_dir():
        patterns = ("VOC*/Annotations", "VOCdevkit/VOC*/Annotations")
        homes = [path.parent for pattern in patterns for path in sorted(folder.glob(pattern))]
        if not homes:
            return None
        home = homes[0]
        keys = {"year": year} if (year := home.name.removeprefix("VOC")) in VOC_YEARS else {}
    lists = {path.stem for path in (home / "ImageSets" / "Main").glob("*.txt")}
    for train, test in (("trainval", "test"), ("train", "test"), ("train", "val")):
        if {train, test} <= lists:
            return keys | {"train": train, "test": test}
    return keys


def _yolo(folder: Path) -> dict[str, Any] | None:
    """Return the keys of a YOLO data set, or None."""
    own: dict[str, Any] = {}
    if not any((folder / name).is_file() for name in _YOLO_FILES):
        others = [path for path in sorted(folder.glob("*.y*ml")) if _names_classes(path)]
        if others:
            own = {"class_names": others[0].name}
        elif not ((folder / "classes.txt").is_file() and _label_files(folder)):
            return None
    splits = read_declared({"root": str(folder), **own}).splits
    held = [n for n in TEST_NAMES if any((folder / p).is_dir() for p in (n, f"images/{n}"))]
    tested = set(splits) & set(TEST_NAMES) if splits else held
    return own if tested else own | DRAWN


def _names_classes(path: Path) -> bool:
    """Tell whether a YAML file is the declaration of a YOLO data set, and no experiment file."""
    try:
        content = read_yaml(path)
    except InputError:
        return False
    return {"names", "train"} <= set(content) and "kind" not in content


def _label_files(folder: Path) -> bool:
    """Tell whether there is a folder ``labels`` or ``obj_train_data`` somewhere near the top."""
    patterns = ("labels", "*/labels", "obj_train_data")
    return any(path.is_dir() for pattern in patterns for path in folder.glob(pattern))


def _folder(folder: Path) -> dict[str, Any] | None:
    """Return the keys of folders of labelled images, or None."""
    below = sub_folders(folder)
    if "train" in below and _class_folders(folder / "train"):
        held = [name for name in TEST_NAMES if name in below]
        return {"train": "train", "test": held[0]} if held else {"train": "train", **DRAWN}
    return {"train": ".", **DRAWN} if len(_class_folders(folder)) > 1 else None


def _class_folders(folder: Path) -> list[str]:
    """Return the folders that hold images."""
    return [name for name in sub_folders(folder) if _holds_image(folder / name)]


def _holds_image(folder: Path, depth: int = 3) -> bool:
    """Tell whether an image lies in a folder or a little below it."""
    entries = list(_entries(folder))
    if any(entry.name.lower().endswith(tuple(IMAGE_SUFFIXES)) for entry in entries):
        return True
    deeper = (Path(entry.path) for entry in entries if depth and entry.is_dir())
    return any(_holds_image(path, depth - 1) for path in deeper)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the first entries of a folder."""
    with os.scandir(folder) as entries:
        yield from islice(entries, _LOOKED_AT)
