"""Reading labelled images from folders: ``train/<class>/*`` and ``test/<class>/*``.

The test folder is ``test``, ``val`` or ``validation``. A class-name file renames folders
(ImageNet-R/A: wnid -> name). With ``test_fraction`` one folder is enough.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import yaml

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.data.checks.findings import Findings
from clclip.data.images import IMAGE_SUFFIXES
from clclip.data.readers.annotated import check_class_name, check_file_name

logger = logging.getLogger(__name__)

_TEST_NAMES = ("test", "val", "validation")


def read_splits(
    spec: dict[str, Any], findings: Findings | None = None
) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """List the images of a data spec of format folder.

    Returns:
        (class names in the order of the sorted folders,
        {"train": [{"id", "file_name" (relative to root), "label"}], "test": [...]}).

    Raises:
        InputError: on a missing or empty folder, a test class without training images, a class with
        a single
            training image, or a class-name file that does not fit.
    """
    findings = findings or Findings()
    root = Path(spec["root"])
    folders = split_folders(spec)
    found = {split: _class_folders(root, name, findings) for split, name in folders.items()}
    if "test" not in found:
        found = _draw_test(found["train"], spec)
    unknown = sorted(set(found["test"]) - set(found["train"]))
    if unknown:
        where = root / folders["test"] / unknown[0]
        raise InputError(
            f"test class {unknown[0]!r} without a training folder",
            where,
            "the same classes in both",
        )
    names = class_names(spec, sorted(found["train"]))
    _check_counts(found, names, root / folders["train"], findings)
    return list(names.values()), _entries(found, names)


def split_folders(spec: dict[str, Any]) -> dict[str, str]:
    """Return {"train": folder, "test": folder} in the root; no "test" with ``test_fraction``.

    Raises:
        InputError: if a folder is missing.
    """
    root = Path(spec["root"])
    fraction = spec.get("test_fraction")
    train = spec.get("train") or ("train" if (root / "train").is_dir() or fraction is None else ".")
    folders = {"train": train}
    if fraction is None:
        present = [name for name in _TEST_NAMES if (root / name).is_dir()]
        folders["test"] = spec.get("test") or (present[0] if present else "test")
    elif not 0 < fraction < 1:
        raise InputError(
            f"test fraction {fraction}", "data.test_fraction", "a number between 0 and 1"
        )
    for split, name in folders.items():
        if not (root / check_file_name(name, f"data.{split}")).is_dir():
            expected = "a folder with one folder per class"
            raise InputError(f"no {split} folder {name!r}", root, expected)
    return folders


def _class_folders(root: Path, name: str, findings: Findings) -> dict[str, list[str]]:
    """Return {class folder: sorted image paths relative to root} of one split."""
    home = root / name
    with os.scandir(home) as entries:
        folders = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not folders:
        raise InputError("no class folder", home, "one folder per class")
    images: dict[str, list[str]] = {}
    for folder in folders:
        check_class_name(folder, home)
        prefix = "" if name == "." else f"{name}/"
        images[folder] = [
            f"{prefix}{folder}/{file}" for file in _image_names(home / folder, findings)
        ]
        if not images[folder]:
            raise InputError(f"empty class folder {folder!r}", home / folder, "at least one image")
    return images


def _image_names(folder: Path, findings: Findings) -> list[str]:
    """Return the image files of one folder, sorted; other files are noted, unless hidden."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not entry.is_dir():
                names.append(check_file_name(entry.name, folder))
            else:
                findings.note(
                    "not an image by its suffix, ignored", repr(f"{folder.name}/{entry.name}")
                )
    return sorted(names)


def _draw_test(
    images: dict[str, list[str]], spec: dict[str, Any]
) -> dict[str, dict[str, list[str]]]:
    """Split every class by ``test_fraction``, in an order of hashed names."""
    seed, fraction = spec.get("split_seed", 0), spec["test_fraction"]
    split: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for folder, names in images.items():
        if len(names) < 3:  # two to train on, one to test
            where = Path(spec["root"]) / folder
            what = f"{_images(len(names))} in class {folder!r}"
            raise InputError(what, where, "three or more, to split them")
        drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        count = min(max(round(fraction * len(names)), 1), len(names) - 2)
        split["test"][folder], split["train"][folder] = sorted(drawn[:count]), sorted(drawn[count:])
    return split


def _images(count: int) -> str:
    """Return the count in words, for a message."""
    return "one image" if count == 1 else f"{count} images"


def _check_counts(
    found: dict[str, dict[str, list[str]]], names: dict[str, str], where: Path, findings: Findings
) -> None:
    """Refuse classes too small to learn; note classes without test images."""
    for folder, name in names.items():
        if len(found["train"][folder]) < 2:
            expected = "two or more training images, for a spread"
            raise InputError(f"one image in class {name!r}", where / folder, expected)
        if folder not in found["test"]:
            findings.note("class without test images", repr(name))


def _entries(
    found: dict[str, dict[str, list[str]]], names: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Number the images, 1.. over both splits, by split and path."""
    splits: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for split in ("train", "test"):
        splits[split] = []
        for folder in sorted(found[split]):
            for file_name in found[split][folder]:
                number += 1
                splits[split].append({"id": number, "file_name": file_name, "label": names[folder]})
    return splits


def class_names(spec: dict[str, Any], folders: list[str]) -> dict[str, str]:
    """Return {folder: class name}, in the order of ``folders``.

    Without ``spec["class_names"]`` a class is named as its folder. The file is json or yaml (a
    mapping, or a list in the order of the sorted folders) or text: lines ``folder name``, or one
    name per folder in order.

    Raises:
        InputError: if a folder has no name, two folders share one, or the file cannot be read.
    """
    if not spec.get("class_names"):
        return {folder: folder for folder in folders}
    path = Path(spec["root"]) / spec["class_names"]
    value = _read_names(path, folders)
    if isinstance(value, list):
        if len(value) != len(folders):
            raise InputError(
                f"{len(value)} names", path, f"{len(folders)}, one per class folder in order"
            )
        value = dict(zip(folders, value, strict=True))
    missing = [folder for folder in folders if folder not in value]
    if missing:
        raise InputError(
            f"no name for class folder {missing[0]!r}", path, "a name for every class folder"
        )
    names = {folder: check_class_name(value[folder], f"{path}: {folder}") for folder in folders}
    owner: dict[str, str] = {}
    for folder, name in names.items():
        if name in owner:
            what = f"name {name!r} for both {owner[name]!r} and {folder!r}"
            raise InputError(what, path, "a different name for every class folder")
        owner[name] = folder
    return names


def _read_names(path: Path, folders: list[str]) -> dict[str, Any] | list[Any]:
    """Read a class-name file of any of its forms."""
    if path.suffix == ".json":
        value = read_json(path)
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
            value = (
                yaml.safe_load(text)
                if path.suffix in (".yaml", ".yml")
                else _text_names(text, folders)
            )
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())[:80]
            raise InputError(
                f"class names cannot be read ({reason})", path, "UTF-8 text, json or yaml"
            ) from None
    if not isinstance(value, dict | list):
        raise InputError(
            f"a {type(value).__name__}", path, "a mapping folder -> name, or a list of names"
        )
    return value


def _text_names(text: str, folders: list[str]) -> dict[str, str] | list[str]:
    """Read lines ``folder name``, or names in the order of the folders."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if set(lines) == set(folders):  # the folders themselves, in whatever order
        return {line: line for line in lines}
    pairs = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    return pairs if set(pairs) & set(folders) else lines
