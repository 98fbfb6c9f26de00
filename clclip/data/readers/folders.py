"""Where the images of a data set lie: one folder per split, and the folder of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.data.readers import coco, voc
from clclip.data.readers.yolo import reader as yolo


def image_home(spec: Mapping[str, Any], split: str, names: Sequence[str]) -> Path:
    """Return the folder that image names of a split are relative to.

    Args:
        spec: a data spec.
        split: "train" or "test".
        names: the listed images, by which the folder of a COCO json is recognised.

    Raises:
        InputError: if a folder that the spec names is not there.
    """
    if spec["format"] == "coco":
        return coco.image_folder(dict(spec), split, names)
    if spec["format"] == "voc":
        return voc.devkit_folder(dict(spec)) / "JPEGImages"
    if spec["format"] == "yolo":
        return yolo.image_home(spec)
    return Path(spec["root"])


def common_root(homes: Mapping[str, Path]) -> tuple[Path, dict[str, str]]:
    """Return the folder of both splits' images, and each split's path below it ("" or "x/")."""
    folders = {split: path.absolute() for split, path in homes.items()}
    root = folders["train"]
    while not folders["test"].is_relative_to(root):
        root = root.parent
    below = {split: path.relative_to(root).as_posix() for split, path in folders.items()}
    return root, {split: "" if path == "." else f"{path}/" for split, path in below.items()}
