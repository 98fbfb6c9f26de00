"""One annotated split in memory: what readers return and the cleaning steps work on."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.names import canonical_name, name_fault, spelt
from clclip.data.readers.fields import TEXT_EXPECTED, shown

# The place of a box that is no four numbers.
NO_BOX = [math.nan] * 4


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
        bad_boxes: by annotation what is wrong where there are no four numbers; bbox is then NaN.
        renamed: whether a class is named otherwise than it was written (see ``names``).
        measured: the sizes are those of the image files, as EXIF turns them: none is recorded.
        corners: boxes were written as corners counted from 1, as VOC does.
        notes: (warning, example) of what is to be reported, as ``Findings.note`` takes it.
    """

    source: Path
    folder: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    where_image: Callable[[int], str] = field(repr=False)
    where_box: Callable[[int], str] = field(repr=False)
    bad_boxes: dict[int, InputError] = field(default_factory=dict)
    renamed: bool = False
    measured: bool = False
    corners: bool = False
    notes: list[tuple[str, str]] = field(default_factory=list)


def check_class_name(name: object, where: object) -> str:
    """Return the canonical spelling of ``name`` if it can be the name of a class.

    Raises:
        InputError: if it is no text, blank, or holds control or invisible characters.
    """
    if not isinstance(name, str):
        raise InputError(f"class name {shown(name)}", where, TEXT_EXPECTED)
    problem = name_fault(name)
    if problem == "blank":
        raise InputError(f"class name {spelt(name)}", where, "a text that is not empty")
    if problem:
        raise InputError(f"class name {name!r} {problem}", where, "printable text in one line")
    return canonical_name(name)


def relative_name(name: str, folder: Path) -> str:
    """Return ``name`` relative to ``folder`` where it is an absolute path inside, else as it is.

    Inside is decided by the path as it is written, then by where the folder really lies.
    """
    path = Path(name)
    if not path.is_absolute() or ".." in path.parts:
        return name
    for home in (folder.absolute(), folder.resolve()):
        if path != home and path.is_relative_to(home):
            return path.relative_to(home).as_posix()
    return name


def check_file_name(name: object, where: object, absolute: bool = False) -> str:
    """Return ``name`` if it can be a path inside an image folder.

    Spaces, quotes, non-ASCII letters and newlines are fine; ``absolute`` lets an absolute path
    pass, for a reader that does not know the folder yet.

    Raises:
        InputError: if it is no text, empty, absolute, has a ".." part, or cannot be a file name at
        all.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"file name {shown(name)}", where, "a path relative to the image folder")
    if "\0" in name or any(unicodedata.category(letter) == "Cs" for letter in name):
        raise InputError(f"file name {name!r}", where, "a name that a file can have, in UTF-8")
    if (Path(name).is_absolute() and not absolute) or ".." in Path(name).parts:
        raise InputError(
            f"file name {name!r} that leaves the image folder",
            where,
            "a path inside the image folder",
        )
    return name
