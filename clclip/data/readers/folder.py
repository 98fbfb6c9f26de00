"""Reading labelled images from folders: ``train/<class>/**`` and ``test/<class>/**``.

The test folder is ``test``, ``val`` or ``validation``. A class-name file renames folders
(ImageNet-R/A: wnid -> name). With ``test_fraction`` one folder is enough. Images in folders below
that of a class are its images.

A folder that cannot be a class (empty, one image, only in test) blocks nothing until a task names
it: it is left out, with the reason.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.names import canonical_name, spelt
from clclip.data.checks.findings import Findings
from clclip.data.checks.notes import note_classes, note_files
from clclip.data.readers.annotated import check_class_name, check_file_name
from clclip.data.readers.class_folders import images_below, sub_folders
from clclip.data.readers.class_names import written_names
from clclip.data.readers.links import broken_link

_TEST_NAMES = ("test", "val", "validation")


@dataclass
class Labelled:
    """A data set of folders as read.

    Attributes:
        classes: class names in the order of the sorted folders.
        images: {"train": [{"id", "file_name" (relative to root), "label"}], "test": [...]}.
        unfit: classes that no task can use, and why.
        renamed: whether a class is named otherwise than it is written (see ``names``).
    """

    classes: list[str]
    images: dict[str, list[dict[str, Any]]]
    unfit: dict[str, InputError]
    renamed: bool

    def note(self, root: Path, findings: Findings) -> None:
        """Note what is odd about the classes and the files."""
        for name, error in self.unfit.items():
            findings.note("class folder that no task can use", f"{name!r} ({error.what})")
        files = {s: (root, [i["file_name"] for i in entries]) for s, entries in self.images.items()}
        note_files(root, files, dict.fromkeys(files, ""), findings)
        note_classes(self.classes, findings)
        shown = {image["label"] for image in self.images["test"]}
        for name in self.classes:
            if name not in shown:
                findings.note("class without test images", repr(name))


@dataclass
class _Split:
    """The class folders of one split, by the canonical names of the folders.

    Attributes:
        folders: all of them as they are written, sorted.
        images: paths relative to the root, of the folders that can be read.
        bad: what is wrong with the others.
    """

    folders: list[str]
    images: dict[str, list[str]] = field(default_factory=dict)
    bad: dict[str, InputError] = field(default_factory=dict)


def read_splits(spec: dict[str, Any], findings: Findings | None = None) -> Labelled:
    """List the images of a data spec of format folder.

    Args:
        spec: the data spec.
        findings: receives files that are no images.

    Raises:
        InputError: on a split folder that is missing or without any class, or a class-name file
            that does not fit.
    """
    findings = findings or Findings()
    root = Path(spec["root"])
    folders = split_folders(spec)
    splits = {s: _class_folders(root, name, findings) for s, name in folders.items()}
    train = splits["train"]
    unfit = _small(train, root / folders["train"], 3 if "test" not in splits else 2)
    if "test" in splits:
        unfit |= splits["test"].bad | _only_in_test(splits["test"], train, root / folders["test"])
        images = {s: split.images for s, split in splits.items()}
    unfit |= train.bad
    fit = [f for f in train.folders if canonical_name(f) not in unfit]
    written = written_names(spec, train.folders, fit)
    names = {canonical_name(folder): canonical_name(name) for folder, name in written.items()}
    if "test" not in splits:
        images = _draw_test({f: i for f, i in train.images.items() if f not in unfit}, spec)
    entries = _entries(images, {f: name for f, name in names.items() if f not in unfit})
    unfit = {names.get(folder, folder): error for folder, error in unfit.items()}
    for split, members in entries.items():
        if not members:
            raise next(iter(unfit.values()), InputError(f"no {split} image", root, "a class"))
    classes = [names[canonical_name(folder)] for folder in fit]
    renamed = any(names[canonical_name(folder)] != written[folder] for folder in fit)
    return Labelled(classes, entries, unfit, renamed)


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
        place = root / check_file_name(name, f"data.{split}")
        if not place.is_dir():
            broken = broken_link(place)
            what = f"no {split} folder {name!r}" + (f" but a {broken}" if broken else "")
            raise InputError(what, root, "a folder with one folder per class")
    return folders


def _class_folders(root: Path, name: str, findings: Findings) -> _Split:
    """Return the class folders of one split."""
    home = root / name
    split = _Split(sub_folders(home))
    if not split.folders:
        raise InputError("no class folder", home, "one folder per class")
    prefix = "" if name == "." else f"{name}/"
    first: dict[str, str] = {}
    for folder in split.folders:
        key = canonical_name(folder)
        try:
            check_class_name(folder, home)
            if first.setdefault(key, folder) != folder:
                what = (
                    f"class folders {spelt(first[key])} and {spelt(folder)} of one class, {key!r}"
                )
                raise InputError(what, home, "one folder per class")
            files = images_below(home / folder, findings)
            if not files:
                what = f"empty class folder {folder!r}"
                raise InputError(what, home / folder, "at least one image")
            split.images[key] = [f"{prefix}{folder}/{file}" for file in files]
        except InputError as error:
            split.bad[key] = error
            split.images.pop(key, None)
    return split


def _small(split: _Split, home: Path, least: int) -> dict[str, InputError]:
    """Return the classes with fewer training images than ``least``: two, or to split them three."""
    expected = "three or more, to split them" if least == 3 else "two or more, for a spread"
    small = {}
    for name, images in split.images.items():
        if len(images) < least:
            count = "one image" if len(images) == 1 else f"{len(images)} images"
            small[name] = InputError(f"{count} in class {name!r}", home / name, expected)
    return small


def _only_in_test(test: _Split, train: _Split, home: Path) -> dict[str, InputError]:
    """Return the classes that have a test folder and no training folder."""
    known = set(train.images) | set(train.bad)
    return {
        name: InputError(
            f"test class {name!r} without a training folder",
            home / name,
            "the same classes in both",
        )
        for name in test.images
        if name not in known
    }


def _draw_test(
    images: dict[str, list[str]], spec: dict[str, Any]
) -> dict[str, dict[str, list[str]]]:
    """Split every class by ``test_fraction``, in an order of hashed names."""
    seed, fraction = spec.get("split_seed", 0), spec["test_fraction"]
    split: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for folder, names in images.items():
        drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        count = min(max(round(fraction * len(names)), 1), len(names) - 2)
        split["test"][folder], split["train"][folder] = sorted(drawn[:count]), sorted(drawn[count:])
    return split


def _entries(
    images: dict[str, dict[str, list[str]]], names: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Number the images of the classes ``names``, 1.. over both splits, by split and path."""
    splits: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for split in ("train", "test"):
        splits[split] = []
        for folder in images[split]:  # in the order of the sorted folders
            for file_name in images[split][folder] if folder in names else ():
                number += 1
                splits[split].append({"id": number, "file_name": file_name, "label": names[folder]})
    return splits
