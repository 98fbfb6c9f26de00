"""What a YOLO data set declares: class names, and splits by name.

Read are ``data.yaml`` (Ultralytics, Roboflow, CVAT), ``obj.data`` with ``obj.names`` (CVAT's
YOLO 1.1, Darknet) and lists of names (``classes.txt`` of Label Studio and labelImg,
``_darknet.labels`` of Roboflow), which declare no split: those are then given by the names of
folders.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clclip.core.errors import InputError
from clclip.core.names import spelt
from clclip.data.readers.annotated import check_class_name
from clclip.data.readers.categories import LEFT_OUT
from clclip.data.readers.fields import shown, type_name, whole
from clclip.data.readers.voc_xml import read_text

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_TEXT = (
    "obj.data",
    "classes.txt",
    "obj.names",
    "train/_darknet.labels",  # Roboflow's "YOLO Darknet"
    "train/classes.txt",  # labelImg, a folder a split
)
_NAMES_EXPECTED = "names: a list of class names, or a map of index to name"
SPLITS = ("train", "val", "valid", "validation", "test")
"""Names of splits that tools write; held-out ones in the order in which they are taken."""


@dataclass(frozen=True)
class Declared:
    """The declaration of one data set.

    Attributes:
        file: the file that declares it.
        files: it, and a file of names that it points to.
        names: class index -> name as it is written, by rising index (``fit_names``).
        splits: name of a split -> the folders and lists that it is, as they are written.
        path: the folder that those start from, as it is written; None where there is none.
        keypoints: how many numbers of key points follow a box.
    """

    file: Path
    files: tuple[Path, ...]
    names: dict[int, object]
    splits: dict[str, list[str]] = field(default_factory=dict)
    path: str | None = None
    keypoints: int = 0


def read_declared(spec: Mapping[str, Any]) -> Declared:
    """Read the declaration of a data spec of format yolo.

    Raises:
        InputError: if there is none, or it has no names or names that do not fit.
    """
    root = Path(spec["root"])
    file = _declaring_file(root, spec.get("class_names"))
    if file.suffix in (".yaml", ".yml"):
        return _from_yaml(file)
    if file.suffix == ".data":
        return _from_darknet(file)
    return Declared(file, (file,), _names(_lines(file), file))


def _declaring_file(root: Path, given: str | None) -> Path:
    """Return the file that names the classes."""
    if given is not None:
        if not (root / given).is_file():
            what = f"no file {given!r}"
            raise InputError(
                what, f"{root}: data.class_names", "data.yaml, classes.txt or the like"
            )
        return root / given
    for name in _YAML:
        if (root / name).is_file():
            return root / name
    others = [p for p in sorted(root.iterdir()) if p.suffix in (".yaml", ".yml") and p.is_file()]
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise InputError(f"several yaml files ({names})", root, "data.class_names to say which")
    candidates = [*others, *(root / name for name in _TEXT if (root / name).is_file())]
    if not candidates:
        expected = "data.yaml with names and splits, or classes.txt beside images and labels"
        raise InputError("no data.yaml", root, expected)
    return candidates[0]


def _from_yaml(file: Path) -> Declared:
    """Read a data.yaml."""
    text = read_text(file)
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"not YAML ({reason})", file, _NAMES_EXPECTED) from None
    if not isinstance(data, dict):
        raise InputError(type_name(data), file, _NAMES_EXPECTED)
    files: tuple[Path, ...] = (file,)
    given = data.get("names")
    if isinstance(given, str) and (file.parent / given).is_file():
        files, given = (file, file.parent / given), _lines(file.parent / given)
    names = _names(given, file, "names" in data)
    if (count := data.get("nc")) is not None and whole(count) != len(names):
        raise InputError(f"nc {shown(count)}, but {len(names)} names", file, f"nc: {len(names)}")
    path = data.get("path")
    if path is not None and not isinstance(path, str):
        raise InputError(f"path {shown(path)}", f"{file}: path", "a folder")
    splits = {
        name: _entries(data[name], f"{file}: {name}")
        for name in SPLITS
        if data.get(name) not in (None, "", [])
    }
    return Declared(file, files, names, splits, path, _keypoints(data, file))


def _entries(value: Any, where: str) -> list[str]:
    """Return the folders or lists of one split."""
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str) or not entry or "\0" in entry:
            expected = "a folder of images, a text file that lists them, or a list of these"
            raise InputError(shown(entry), where, expected)
    return entries


def _keypoints(data: Mapping[str, Any], file: Path) -> int:
    """Return how many numbers of key points follow a box (``kpt_shape: [points, 2 or 3]``)."""
    shape = data.get("kpt_shape")
    if shape is None:
        return 0
    match [whole(value) for value in shape] if isinstance(shape, list) else []:
        case [int(points), int(numbers)] if min(points, numbers) >= 0:
            return points * numbers
    raise InputError(f"kpt_shape {shown(shape)}", file, "kpt_shape: [points, 2 or 3]")


def _from_darknet(file: Path) -> Declared:
    """Read an ``obj.data``: lines ``key = value``."""
    pairs = dict(line.partition("=")[::2] for line in _lines(file))
    data = {key.strip(): value.strip() for key, value in pairs.items()}
    given = data.get("names", "obj.names")
    names_file = next(
        (p for p in (file.parent / given, file.parent / Path(given).name) if p.is_file()), None
    )
    if names_file is None:
        raise InputError(
            f"names {given!r}, which is not there", file, "a file of one name per line"
        )
    splits = {name: [data[name]] for name in SPLITS if data.get(name)}
    return Declared(file, (file, names_file), _names(_lines(names_file), names_file), splits)


def _lines(file: Path) -> list[str]:
    """Return the lines of a text file that are not blank."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def _names(given: Any, file: Path, there: bool = True) -> dict[int, object]:
    """Return {class index: name as it is written}.

    Raises:
        InputError: if there is no name, or an index is no whole number from 0 or stands twice.
    """
    if given is None or given in ([], {}, ""):
        problem = "no names" if not there or given is None else "empty names"
        raise InputError(problem, file, _NAMES_EXPECTED)
    pairs: list[tuple[Any, Any]]
    if isinstance(given, list):
        pairs = list(enumerate(given))
    elif isinstance(given, dict):
        pairs = list(given.items())
    else:
        raise InputError(f"{type_name(given)} as names", file, _NAMES_EXPECTED)
    names: dict[int, object] = {}
    for key, written in pairs:
        text = key.strip() if isinstance(key, str) else ""
        index = int(text) if text.isascii() and text.isdigit() else whole(key)
        if index is None or index < 0:
            raise InputError(f"index {shown(key)}", f"{file}: names", "whole numbers from 0")
        if index in names:
            raise InputError(f"index {index} twice", f"{file}: names[{index}]", "one name an index")
        names[index] = written
    return dict(sorted(names.items()))


def fit_names(
    declared: Declared, used: Collection[int]
) -> tuple[dict[int, str], list[tuple[str, str]]]:
    """Return {class index: canonical name}, and notes of the classes left out.

    Args:
        declared: the declaration.
        used: the class indices of the labels.

    Raises:
        InputError: if a used class has no fit name, or that of another used one.
    """
    names: dict[int, str] = {}
    owner: dict[str, int] = {}
    notes: list[tuple[str, str]] = []
    # the used ones first: they are not to lose their names to others
    for index in sorted(declared.names, key=lambda index: index not in used):
        written, where = declared.names[index], f"{declared.file}: names[{index}]"
        try:
            name = check_class_name(written, where)
            if name in owner:
                raise _twice(name, written, where, owner[name], declared.names[owner[name]])
        except InputError as error:
            if index in used:
                raise
            notes.append((LEFT_OUT, f"index {index}, name {shown(written)} ({error.what})"))
        else:
            names[index], owner[name] = name, index
    if not names:
        raise InputError("no class", f"{declared.file}: names", "at least one")
    return dict(sorted(names.items())), notes


def _twice(name: str, written: object, where: str, other: int, before: object) -> InputError:
    """Return the error of a name that another class has."""
    what = f"duplicate class name {name!r} (also names[{other}])"
    if before != written:
        what += f", written {spelt(str(before))} and {spelt(str(written))}"
    return InputError(what, where, "unique names")
