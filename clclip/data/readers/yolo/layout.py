"""Where the images and labels of a YOLO data set lie.

The label file of ``.../images/x/a.jpg`` is ``.../labels/x/a.txt`` (the last folder ``images`` of
the path), else ``a.txt`` beside the image. An image without one has no objects.

Paths in the files of other tools are often those of another machine, or off by a folder (Roboflow
writes ``../train/images`` for ``train/images``). So a path that leads nowhere is looked for inside
the data set: the longest end of it that is there is taken.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from clclip.core.errors import InputError, nearest
from clclip.data.checks.findings import Findings
from clclip.data.memo import memoised
from clclip.data.readers.class_folders import images_below
from clclip.data.readers.voc_xml import read_text
from clclip.data.readers.yolo.declared import SPLITS, Declared, read_declared


@dataclass(frozen=True)
class Layout:
    """The files of a data set.

    Attributes:
        declared: what it declares.
        home: the folder that names of images start from.
        images: split -> absolute paths of its images.
        labels: absolute path of an image -> its label file, where it has one.
        lists: the files that list images.
        unused: declared splits that are not read.
    """

    declared: Declared
    home: Path
    images: dict[str, list[str]]
    labels: dict[str, str]
    lists: list[Path]
    unused: list[str] = field(default_factory=list)


def read_layout(spec: Mapping[str, Any]) -> Layout:
    """Find the files of a data spec of format yolo.

    Raises:
        InputError: if its declaration is wrong, a split is missing, or two images share a label.
    """
    keys = ("root", "train", "test", "class_names", "test_fraction", "split_seed")
    return memoised(f"yolo {[spec.get(key) for key in keys]}", lambda: _read_layout(spec))


def _read_layout(spec: Mapping[str, Any]) -> Layout:
    """Find the files."""
    root = Path(os.path.abspath(spec["root"]))
    declared = read_declared(spec)
    base = _base(declared, root)
    chosen = _chosen(spec, declared, root)
    lists: list[Path] = []
    images, folders = {}, [root]
    for split, entries in chosen.items():
        names: dict[str, None] = {}
        for entry in entries:
            place = _place(entry, base, root, os.path.exists)
            if place is None:
                what = f"{split} images {entry!r}, which are not there"
                expected = "a folder of images or a text file that lists them"
                raise InputError(what, declared.file, expected)
            if place.is_dir():
                folders.append(place)
                listed = [f"{place}/{name}" for name in images_below(place, Findings())]
            else:
                lists.append(place)
                listed = _listed(place, base, root)
                folders += [Path(os.path.dirname(name)) for name in listed]
            names.update(dict.fromkeys(listed))
        images[split] = list(names)
    _check_images(images, declared, root)
    if "test" not in images:
        images = _drawn(images["train"], spec, root)
    labels = _label_files([name for names in images.values() for name in names])
    read = {tuple(entries) for entries in chosen.values()}
    unused = [name for name, entries in declared.splits.items() if tuple(entries) not in read]
    home = Path(os.path.commonpath(folders))
    return Layout(declared, home, images, labels, list(dict.fromkeys(lists)), unused)


def _check_images(images: Mapping[str, list[str]], declared: Declared, root: Path) -> None:
    """Refuse labels without any image, which labelling tools export unless asked for both.

    Raises:
        InputError: if there are labels, and no image.
    """
    if any(images.values()):
        return
    names = {file.name for file in declared.files} | {"_darknet.labels"}
    labels = [path for path in root.rglob("labels/**/*.txt") if path.name not in names]
    if labels:
        what = f"{len(labels)} label files and no image"
        expected = "the images too (export them with the labels, or copy them into images/)"
        raise InputError(what, root, expected)


def labelled_split(spec: Mapping[str, Any]) -> str:
    """Return the split that a data set is read as where one is asked for: val, test, or its only.

    Raises:
        InputError: as ``read_declared``.
    """
    declared = read_declared(spec)
    splits = declared.splits or _by_folders(Path(os.path.abspath(spec["root"])))
    return next((name for name in SPLITS[1:] if name in splits), "train")


def _chosen(spec: Mapping[str, Any], declared: Declared, root: Path) -> dict[str, list[str]]:
    """Return the folders and lists of "train" and, unless it is drawn from it, of "test"."""
    splits = declared.splits or _by_folders(root)
    fraction = spec.get("test_fraction")
    if fraction is not None and not 0 < fraction < 1:
        expected = "a number between 0 and 1"
        raise InputError(f"test fraction {fraction}", "data.test_fraction", expected)
    chosen = {"train": _named(spec.get("train") or "train", "train", splits, declared, root)}
    if fraction is None:
        default = next((name for name in SPLITS[1:] if name in splits), None)
        if not (name := spec.get("test") or default):
            expected = "val: or test: in it, or data.test_fraction to draw one from train"
            raise InputError("no val or test split", declared.file, expected)
        chosen["test"] = _named(name, "test", splits, declared, root)
    return chosen


def _named(
    name: str, key: str, splits: Mapping[str, list[str]], declared: Declared, root: Path
) -> list[str]:
    """Return the entries of the split that ``data.train`` or ``data.test`` names."""
    if name in splits:
        return splits[name]
    if (root / name).exists() and name not in (".", ""):
        return [str(root / name)]
    known = ", ".join(splits) or "none"
    what = f"no split {name!r}{nearest(name, splits)}"
    raise InputError(what, f"{declared.file}: data.{key}", f"one that it declares: {known}")


def _by_folders(root: Path) -> dict[str, list[str]]:
    """Return the splits of a data set that declares none, by the names of its folders."""
    splits = {}
    for name in SPLITS:
        places = (f"images/{name}", f"{name}/images", name)
        if place := next((p for p in places if (root / p).is_dir()), None):
            splits[name] = [place]
    if "train" not in splits:
        splits["train"] = ["images" if (root / "images").is_dir() else "."]
    return splits


def _base(declared: Declared, root: Path) -> Path:
    """Return the folder that the paths of splits start from."""
    home = Path(os.path.abspath(declared.file.parent))
    if declared.path is None:
        return home
    return _place(declared.path, home, root, os.path.isdir) or home


def _place(entry: str, base: Path, root: Path, there: Callable[[str], bool]) -> Path | None:
    """Return where a path leads that another tool wrote, or None.

    As it is written, but inside the data set first where it begins with ``..``; else the longest
    end of it that lies in the data set.
    """
    path = PurePosixPath(entry.replace("\\", "/") if "/" not in entry else entry)
    parts = [part for part in path.parts if part not in ("..", ".", path.anchor, "/")]
    tries = [os.path.normpath(base / path)]
    if ".." in path.parts:
        tries.insert(0, str(base.joinpath(*parts)))
    tries += [str(root.joinpath(*parts[k:])) for k in range(len(parts))]
    return next((Path(place) for place in tries if there(place)), None)


def _listed(file: Path, base: Path, root: Path) -> list[str]:
    """Return the absolute paths of the images that a list names."""
    paths = []
    for line in read_text(file).splitlines():
        if not (entry := line.strip()):
            continue
        beside = os.path.normpath(file.parent / entry)
        place = beside if os.path.isfile(beside) else _place(entry, base, root, os.path.isfile)
        paths.append(str(place or os.path.normpath(base / entry)))
    return paths


def _drawn(names: list[str], spec: Mapping[str, Any], root: Path) -> dict[str, list[str]]:
    """Split images by ``test_fraction``, in an order of hashed names."""
    seed, fraction = spec.get("split_seed") or 0, spec["test_fraction"]

    def key(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{os.path.relpath(name, root)}".encode()).digest()

    count = min(max(round(fraction * len(names)), 1), len(names) - 1)
    test = set(sorted(names, key=key)[: max(count, 0)])
    return {
        "train": [name for name in names if name not in test],
        "test": [name for name in names if name in test],
    }


def _label_files(images: list[str]) -> dict[str, str]:
    """Return {image: label file} of the images that have one.

    Raises:
        InputError: if two images of a folder share one.
    """
    inside: dict[str, frozenset[str]] = {}
    owner: dict[str, str] = {}
    for image in dict.fromkeys(images):
        stem = os.path.splitext(image)[0] + ".txt"
        head, sep, tail = stem.rpartition("/images/")
        for label in ([f"{head}/labels/{tail}"] if sep else []) + [stem]:
            folder, name = os.path.split(label)
            if folder not in inside:
                inside[folder] = _names_in(folder)
            if name in inside[folder]:
                if (other := owner.setdefault(label, image)) != image:
                    both = f"{os.path.basename(other)!r} and {os.path.basename(image)!r}"
                    raise InputError(f"two images {both} of one label", label, "one image per name")
                break
    return {image: label for label, image in owner.items()}


def _names_in(folder: str) -> frozenset[str]:
    """Return the names in a folder; none where it is not there."""
    return frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()


def orphans(layout: Layout) -> list[str]:
    """Return the label files in the folders of labels that belong to no image, sorted."""
    known = set(layout.labels.values())
    folders = {os.path.dirname(label) for label in known if "/labels" in label}
    stems = {os.path.splitext(path.name)[0] for path in layout.declared.files}
    lone = []
    for folder in sorted(folders):
        for name in sorted(os.listdir(folder)):
            stem, suffix = os.path.splitext(name)
            if suffix == ".txt" and f"{folder}/{name}" not in known and stem not in stems:
                lone.append(f"{folder}/{name}")
    return lone
