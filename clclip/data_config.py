"""The data of an experiment at plan time: its canonical description, its id, the classes it declares."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from clclip.config import Experiment
from clclip.errors import InputError
from clclip.files import read_json
from clclip.protocols import protocols
from clclip.task_file import digest

DEFAULT_WORLD = {"detection": "shapes20", "classification": "shapes_cil"}
VOC_SPLITS = {"2007": ("trainval", "test"), "2012": ("train", "val")}
CONTENT_KEYS = ("format", "year", "on_bad_box", "on_bad_image")


def data_spec(
    experiment: Experiment, base: Path, where: object, present: bool = True
) -> dict[str, Any]:
    """Return the canonical description of the data, with its content-addressed id.

    Args:
        experiment: the experiment.
        base: folder that a relative root starts from.
        where: the experiment's file, for messages.
        present: whether the data must be there; if not, and it is not, the id ends in ``-missing``.

    Raises:
        InputError: if the data is not there or the world does not exist.
    """
    from clclip.data.scenes import world_spec

    data = experiment.data
    if data.format == "shapes":
        world = data.world or DEFAULT_WORLD[experiment.kind]
        known = world_spec(world)
        if known["kind"] != experiment.kind:
            what = f"world {world!r} is for {known['kind']}"
            raise InputError(what, f"{where}: data.world", f"a world for {experiment.kind}")
        return {"id": known["data_id"], "format": "shapes", "world": world}
    keep = ("format", "images", "train", "test", "year", "class_names", "download")
    spec = {key: getattr(data, key) for key in (*keep, "on_bad_box", "on_bad_image")}
    if data.format == "voc":
        spec["year"] = data.year or "2007"
        train, test = VOC_SPLITS.get(spec["year"], ("train", "val"))
        spec |= {"train": data.train or train, "test": data.test or test}
    spec = {key: value for key, value in spec.items() if value is not None}
    root = Path(os.path.abspath(base / Path(str(data.root)).expanduser()))
    spec["root"] = str(root)
    return {"id": _data_id(spec, root, where, present), **spec}


def _data_id(spec: Mapping[str, Any], root: Path, where: object, present: bool) -> str:
    """Return a readable, content-addressed id."""
    from clclip._pending import owned

    data_version = owned("clclip.data.index", "data_version")

    stem = re.sub(r"[^A-Za-z0-9_]+", "_", root.name).strip("_")[:40] or "data"
    if not root.is_dir() and not spec.get("download"):
        if present:
            raise InputError(f"no such folder {root}", f"{where}: data.root", "the data's folder")
        return f"{stem}-missing"
    settings = {key: spec[key] for key in CONTENT_KEYS if key in spec}
    if spec["format"] in ("voc", "folder"):
        settings |= {key: spec[key] for key in ("train", "test") if key in spec}
    return f"{stem}-{digest([data_version(dict(spec)), settings], 8)}"


def declared_classes(spec: Mapping[str, Any], where: object) -> list[str]:
    """Return the classes that the data declares, in its own order.

    Raises:
        InputError: if the annotations cannot be read.
    """
    from clclip.data.scenes import world_spec

    kind, root = spec["format"], Path(spec.get("root", "."))
    if kind == "shapes":
        return list(world_spec(spec["world"])["classes"])
    if kind == "voc":
        return list(protocols()["voc_10_10"].classes)
    if kind == "cifar100":
        return list(protocols()["cifar100_10x10"].classes)
    if kind == "coco":
        return _coco_classes(root, spec)
    from clclip.data.folder import folder_classes

    return list(folder_classes(dict(spec)))


def _coco_classes(root: Path, spec: Mapping[str, Any]) -> list[str]:
    """Return the category names of both json files, by id; the files are read once per version."""
    names: dict[Any, str] = {}
    for key in ("train", "test"):
        path = root / spec[key]
        try:
            mtime = path.stat().st_mtime_ns
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise InputError(what, path, f"the {key} annotations, a COCO json") from None
        names |= _categories(path, mtime)
    return list(dict.fromkeys(names[key] for key in sorted(names, key=lambda k: (str(type(k)), k))))


@cache
def _categories(path: Path, mtime: int) -> dict[Any, str]:
    """Return id -> name of the categories in a COCO json."""
    content = read_json(path)
    rows = content.get("categories") if isinstance(content, dict) else None
    try:
        return {row["id"]: str(row["name"]) for row in rows or []}
    except (KeyError, TypeError):
        expected = "categories with id and name"
        raise InputError("malformed categories", path, expected) from None
