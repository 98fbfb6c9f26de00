"""The version of a data set: a digest of its annotations and of its images' names and sizes.

Computed whenever a plan is made, hence cached: annotation files are read again only if their time
or size changed. Image files are never read, only their sizes looked up, so a touched or re-copied
data set keeps its version and one edited label or replaced image changes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import write_text
from clclip.core.names import distinguished
from clclip.data.checks.boxes import refuse_bad_boxes
from clclip.data.checks.findings import Findings
from clclip.data.checks.scale import check_scale
from clclip.data.memo import memoised
from clclip.data.readers import cifar, coco, folder, voc
from clclip.data.readers.annotated import Annotated
from clclip.data.readers.folders import image_home
from clclip.data.readers.links import broken_link, check_inside, trusted_home
from clclip.data.readers.yolo import reader as yolo

logger = logging.getLogger(__name__)

_LAYOUT = 1  # of what `prepare` writes: raise it when old indexes must be made again
_LENGTH = 8

ANNOTATED: dict[str, Callable[[dict[str, Any]], dict[str, Annotated]]] = {
    "coco": coco.read_splits,
    "voc": voc.read_splits,
    "yolo": yolo.read_splits,
}
"""The readers of images with boxes, by format."""

FORMATS = "shapes, coco, voc, yolo, folder or cifar100"

# The keys of a spec that change the index; not the id, nor the place where the data lies.
_SETTINGS = (
    "format train test images year class_names test_fraction split_seed world draw difficulty exif "
    "links"
).split()

# Raise it when readers come to tell other facts: cached ones are then read anew. No id changes.
_READERS = 2

# An edit within one tick of a coarse file clock would go unnoticed: younger files are not cached.
_YOUNG_SECONDS = 2.0


def plan_facts(spec: dict[str, Any], cache: Path | None = None) -> dict[str, Any]:
    """Return what planning needs of a data set.

    {"digest": of the annotations, "classes": [...], "images": {split: [file names]}, "renamed":
    whether classes are named otherwise than written, "unfit": {class that no task can use: [what,
    where, expected]}}.

    Args:
        spec: a data spec.
        cache: folder for facts that are slow to get; None reads everything.

    Raises:
        InputError: if the annotations are missing or malformed.
    """
    check_root(spec)
    name = _name(spec)
    return memoised(f"facts {name}", lambda: _plan_facts(spec, name, cache))


def _plan_facts(spec: dict[str, Any], name: str, cache: Path | None) -> dict[str, Any]:
    """Take the facts from the cache, or read them and keep them there."""
    files = _annotation_files(spec)
    key, young = _key(files)
    # Folders have no annotation file whose time could be compared: they are listed every time.
    path = cache / f"{name}.json" if cache and spec["format"] != "folder" else None
    if path and (known := _read_cache(path, key)):
        return known
    facts = _read_facts(spec, files)
    if path and not young:
        _write_cache(path, {"key": key, "facts": facts})
    return facts


def _name(spec: dict[str, Any]) -> str:
    """Return a digest of where a data set lies and how it is read."""
    return _digest([_settings(spec), str(Path(spec["root"]).absolute())])


def read_annotated(spec: dict[str, Any]) -> dict[str, Annotated]:
    """Return both splits of a data spec of a format of ``ANNOTATED``; not to be changed.

    Raises:
        InputError: if the annotations are missing or malformed, a box is none and not to be left
            out, or all boxes of a split are fractions.
    """
    return memoised(f"annotated {_name(spec)}", lambda: _read_annotated(spec))


def _read_annotated(spec: dict[str, Any]) -> dict[str, Annotated]:
    """Read both splits and check the boxes as far as no image is needed."""
    for path in _annotation_files(spec):
        check_inside(path, path.name, trusted_home(spec, path.parent))
    splits = ANNOTATED[spec["format"]](spec)
    for split, annotated in splits.items():
        refuse_bad_boxes(annotated, spec.get("on_bad_box") or "fail")
        check_scale(annotated, split, Findings())
    return splits


def read_labelled(spec: dict[str, Any]) -> folder.Labelled:
    """Return a data spec of format folder as read; not to be changed.

    Raises:
        InputError: as ``folder.read_splits``.
    """
    return memoised(f"labelled {_name(spec)}", lambda: folder.read_splits(spec))


def is_downloaded(spec: dict[str, Any]) -> bool:
    """Return whether the data is there, as it is unless ``download`` has yet to fetch it."""
    if not spec.get("download"):
        return True
    if spec["format"] == "voc":
        return voc.is_whole(spec)
    try:
        cifar.check_layout(spec)
    except InputError:
        return False
    return True


def data_version(spec: dict[str, Any], cache: Path | None = None) -> str:
    """Return 8 hex digits that change if and only if the data set or its settings do.

    With ``download: true`` the published archive's checksum stands for the files, so that the
    version is the same before and after the download.

    Raises:
        InputError: if the annotations are missing or malformed. (Missing images are left to
        ``prepare``.)
    """
    if spec["format"] == "shapes":
        from clclip.data.shapes.worlds import changes, world_spec

        version = world_spec(spec["world"], **changes(spec))["version"]
        return _digest([_settings(spec), version])[:_LENGTH]
    if spec.get("download") or _is_python_cifar(spec):
        return _digest([_settings(spec), "published archive"])[:_LENGTH]
    facts = plan_facts(spec, cache)
    sizes = [
        [split, _sizes(spec, split, names)] for split, names in sorted(facts["images"].items())
    ]
    # what was indexed by names as they are written is not what is read now
    names = [["names", facts["classes"]]] if facts["renamed"] else []
    return _digest([_settings(spec), facts["digest"], sizes, *names])[:_LENGTH]


def declared_classes(spec: dict[str, Any], cache: Path | None = None) -> list[str] | None:
    """Return the class names in the data's own order; None if it must be downloaded first.

    Raises:
        InputError: if the annotations are missing or malformed.
    """
    if spec["format"] == "shapes":
        from clclip.data.shapes.worlds import world_spec

        return list(world_spec(spec["world"])["classes"])
    if _is_python_cifar(spec):
        return list(cifar.CIFAR100_CLASSES)
    if spec.get("download"):
        return list(voc.VOC_CLASSES) if spec["format"] == "voc" else None
    return list(plan_facts(spec, cache)["classes"])


def unfit_classes(spec: dict[str, Any], cache: Path | None = None) -> dict[str, list[str]]:
    """Return {class: [what, where, expected]} of folders that no task can use.

    Raises:
        InputError: if the data cannot be read.
    """
    return plan_facts(spec, cache)["unfit"] if spec["format"] == "folder" else {}


def _is_python_cifar(spec: dict[str, Any]) -> bool:
    """Return whether this is CIFAR-100 in the layout whose files have published checksums.

    Raises:
        InputError: if it is CIFAR-100, and neither layout is there or to be downloaded.
    """
    if spec["format"] != "cifar100":
        return False
    if not spec.get("download"):
        check_root(spec)
        cifar.check_layout(spec)
    return not cifar.binary_files(spec)


def check_root(spec: dict[str, Any]) -> None:
    """Raise InputError unless the root is a folder."""
    if not spec.get("root"):
        raise InputError("no root", "data.root", "the folder of the data set")
    if not Path(spec["root"]).is_dir():
        raise InputError(f"no folder {spec['root']!r}", "data.root", "the folder of the data set")


def _settings(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a spec that the version depends on, defaults filled in."""
    given = {key: spec[key] for key in _SETTINGS if spec.get(key) is not None}
    bad = {key: spec.get(key) or "fail" for key in ("on_bad_box", "on_bad_image")}
    return {**given, **bad, "layout": _LAYOUT}


def _annotation_files(spec: dict[str, Any]) -> list[Path]:
    """Return the files whose bytes are annotations."""
    match spec["format"]:
        case "coco":
            return [coco.annotation_file(spec, split) for split in ("train", "test")]
        case "voc":
            return voc.annotation_files(spec)
        case "yolo":
            return yolo.annotation_files(spec)
        case "folder":
            names = spec.get("class_names")
            return [Path(spec["root"]) / names] if names else []
        case "cifar100":
            return cifar.binary_files(spec)
    raise InputError(f"format {spec['format']!r}", "data.format", FORMATS)


def _read_facts(spec: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """Read the annotations."""
    renamed = False
    unfit: dict[str, list[str]] = {}
    if spec["format"] == "folder":
        labelled = read_labelled(spec)
        classes, renamed = labelled.classes, labelled.renamed
        images = {s: [e["file_name"] for e in entries] for s, entries in labelled.images.items()}
        unfit = {name: [e.what, e.where, e.expected] for name, e in labelled.unfit.items()}
    elif spec["format"] == "cifar100":
        classes, images = cifar.read_splits(spec)[0], {}
    else:
        splits = read_annotated(spec)
        classes = merged_classes(splits)
        images = {s: [e["file_name"] for e in a.images] for s, a in splits.items()}
        renamed = any(annotated.renamed for annotated in splits.values())
    return {
        "digest": _digest_files(files, Path(spec["root"])),
        "classes": classes,
        "images": images,
        "renamed": renamed,
        "unfit": unfit,
    }


def merged_classes(splits: dict[str, Any]) -> list[str]:
    """Return the class names of both splits, ordered by category id.

    Raises:
        InputError: if the splits disagree about an id or a name.
    """
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for split in splits.values():
        for category in split.categories:
            number, name = category["id"], category["name"]
            if names.setdefault(number, name) != name:
                here, there = distinguished(name, names[number])
                what = f"id {number} is {here} here and {there} in the other split"
                raise InputError(what, split.source, "the same categories in both")
            if ids.setdefault(name, number) != number:
                what = f"class {name!r} has id {number} here and {ids[name]} in the other split"
                raise InputError(what, split.source, "the same categories in both")
    return [names[number] for number in sorted(names)]


def _sizes(spec: dict[str, Any], split: str, names: list[str]) -> list[list[Any]]:
    """Return sorted [name, bytes] of the images; -1 where one is missing."""
    home = image_home(spec, split, names)
    return sorted([name, _size(os.path.join(home, name))] for name in names)


def _size(path: str) -> int:
    """Return the size of a file in bytes, -1 if there is none."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return -1


def _digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_files(files: Iterable[Path], root: Path) -> str:
    """Return the SHA-256 of the names and bytes of ``files``."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{os.path.relpath(path, root)}\0".encode())
        with path.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def _key(files: list[Path]) -> tuple[str, bool]:
    """Return a digest of (path, time, size) of files, and whether one is too young to be cached."""
    stats: list[tuple[str, int, int]] = []
    for path in files:
        try:
            stat = path.stat()
        except OSError as error:
            problem = broken_link(path) or f"cannot be read ({error.strerror})"
            raise InputError(problem, path, "a file of annotations or class names") from None
        stats.append((str(path), stat.st_mtime_ns, stat.st_size))
    young = any(time.time() - entry[1] / 1e9 < _YOUNG_SECONDS for entry in stats)
    return _digest([_READERS, stats]), young


def _read_cache(path: Path, key: str) -> dict[str, Any] | None:
    """Return the cached facts if they belong to ``key``; a damaged cache counts as none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return value["facts"] if value["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(path: Path, value: dict[str, Any]) -> None:
    """Write the cache; a read-only disk only makes the next plan slower."""
    try:
        write_text(path, json.dumps(value))
    except (OSError, InputError) as error:
        logger.debug("%s not cached: %s", path, error)
