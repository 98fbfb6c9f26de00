"""One annotated split in memory: what readers return and the cleaning steps work on."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError


@dataclass
class Annotated:
    """A split as read: structure checked, images not yet opened, boxes not yet cleaned.

    Attributes:
        source: the annotation file or folder, for messages.
        folder: the folder that ``file_name`` is relative to.
        images: {"id", "file_name", "width", "height"}; the sizes are None where nothing is
            recorded.
        annotations: {"id", "image_id", "category_id", "bbox" [x, y, w, h] px, "area", "iscrowd",
            and "ignore", "difficult" where they are 1}.
        categories: {"id", "name"} in the data's own order.
        where_image, where_box: the place of the n-th image or annotation, for messages.
    """

    source: Path
    folder: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    where_image: Callable[[int], str] = field(repr=False)
    where_box: Callable[[int], str] = field(repr=False)


def check_class_name(name: object, where: object) -> str:
    """Return ``name`` if it can be the name of a class.

    Raises:
        InputError: if it is no text, blank, or holds control characters or lone surrogates.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"class name {name!r}", where, "a text that is not empty")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise InputError(f"class name {name!r} with control characters", where, "printable text")
    return name


def check_file_name(name: object, where: object) -> str:
    """Return ``name`` if it can be a path inside an image folder.

    Spaces, quotes, non-ASCII letters and newlines are fine.

    Raises:
        InputError: if it is no text, empty, absolute, has a ".." part, or cannot be a file name at
        all.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"file name {name!r}", where, "a path relative to the image folder")
    if "\0" in name or any(unicodedata.category(letter) == "Cs" for letter in name):
        raise InputError(f"file name {name!r}", where, "a name that a file can have, in UTF-8")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"file name {name!r} that leaves the image folder",
            where,
            "a path inside the image folder",
        )
    return name
