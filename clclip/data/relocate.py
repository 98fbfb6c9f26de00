"""A data set that was moved: its index gets the new place before anything is planned.

The id of a data set vouches for the names and sizes of its images, not for where they lie. So a
move makes nothing again; only ``root`` in ``index.json``, by which every stage finds the images, is
written anew. Were the place compared by Snakemake, a move would run ``prepare_data`` again and hide
every job after it, since their inputs are ``ancient``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import read_object, replacing
from clclip.data.readers import voc
from clclip.data.readers.folders import common_root, image_home


def relocate(data: Iterable[Mapping[str, Any]], resources: Path, cache: Path | None = None) -> None:
    """Write the present place of every indexed data set into its index, with the index's old time.

    Args:
        data: the data specs of a plan.
        resources: folder of the data sets' indexes.
        cache: folder for facts that are slow to get.

    Raises:
        InputError: if the image folders of the splits no longer lie to each other as indexed, or
            an index cannot be written.
    """
    for spec in data:
        path = resources / "data" / spec["id"] / "index.json"
        if spec.get("root") and path.is_file():
            _relocate(path, spec, cache)


def _relocate(path: Path, spec: Mapping[str, Any], cache: Path | None) -> None:
    """Write the place of one data set into its index, if it names another."""
    try:
        index = read_object(path, ("root",), "prepare")
    except InputError:
        return  # the stage that reads it says what is wrong
    if not isinstance(index["root"], str) or not os.path.isabs(index["root"]):
        return  # its images lie beside the index
    try:
        homes = _homes(spec, cache)
    except InputError:
        if spec.get("download"):
            return  # not downloaded to the new place: the old one serves
        raise
    root, folders = common_root(homes)
    if index["root"] == str(root) or not root.is_dir():
        return
    if spec.get("download") and not voc.is_whole(dict(spec)):
        return  # nor is a part of a download a place to read from
    if index.get("folders", folders) != folders:
        before = _places(index["folders"])
        what = f"image folders {_places(folders)} of a data set indexed with {before}"
        expected = f"the folders as they were, or {path.parent} removed to index it again"
        raise InputError(what, root, expected)
    stat = path.stat()
    index["root"] = str(root)
    with replacing(path) as temporary:
        text = json.dumps(index, indent=1, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        os.utime(temporary, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    print(f"Data {spec['id']} was moved: its images are read from {root}", file=sys.stderr)


def _homes(spec: Mapping[str, Any], cache: Path | None) -> dict[str, Path]:
    """Return the image folder of each split."""
    names: dict[str, list[str]] = {}
    if spec["format"] == "coco":
        from clclip.data.version import plan_facts

        names = plan_facts(dict(spec), cache)["images"]
    return {split: image_home(spec, split, names.get(split, [])) for split in ("train", "test")}


def _places(folders: Mapping[str, str]) -> str:
    """Return the folders of both splits for a message."""
    return " and ".join(repr(folders[split] or "./") for split in sorted(folders, reverse=True))
