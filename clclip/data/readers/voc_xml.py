"""One annotation file of PASCAL VOC: the size of its image and its objects."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.data.readers.annotated import NO_BOX, check_class_name
from clclip.data.readers.fields import ascii_number

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_xml(path: Path) -> tuple[tuple[int | None, int | None], list[dict[str, Any]]]:
    """Read one annotation file.

    Returns:
        (width, height), None where they are unknown; and {"name", "written": that name as it
        stands there, "bbox" [x, y, w, h], "difficult", "problem": what the box lacks} per object.

    Raises:
        InputError: on anything that is not a VOC annotation.
    """
    text = read_bytes(path)
    markup = text.replace(b"\0", b"")  # of UTF-16 and UTF-32 too
    if b"<!DOCTYPE" in markup or b"<!ENTITY" in markup:  # entities could expand without end
        raise InputError("a DOCTYPE or ENTITY", path, "plain VOC XML")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"not XML ({error})", path, "a complete VOC annotation file") from None
    if root.tag != "annotation":
        raise InputError(f"root element <{root.tag}>", path, "<annotation>")
    width, height = (
        _length(root.findtext(f"size/{key}"), f"{path}: size.{key}") for key in ("width", "height")
    )
    return (width, height), [
        _read_object(node, f"{path}: object[{n}]") for n, node in enumerate(root.findall("object"))
    ]


def _read_object(node: ElementTree.Element, where: str) -> dict[str, Any]:
    """Return the class, the box and the difficult flag of one <object>."""
    written = (node.findtext("name") or "").strip()
    name = check_class_name(written, f"{where}.name")
    difficult = (node.findtext("difficult") or "").strip() or "0"
    if not re.fullmatch(r"[01](\.0*)?", difficult):
        raise InputError(f"difficult {difficult!r}", f"{where}.difficult", "0 or 1")
    box, problem = NO_BOX, None
    try:
        corners = [_number(node.findtext(f"bndbox/{k}"), f"{where}.bndbox.{k}") for k in _CORNERS]
    except InputError as error:
        problem = error
    else:
        left, top, right, bottom = corners
        # Exchanged corners stay a negative size: a bad box, whatever the inclusive maximum adds.
        width, height = right - left + (right >= left), bottom - top + (bottom >= top)
        box = [left - 1, top - 1, width, height]
    return {
        "name": name,
        "written": written,
        "bbox": box,
        "difficult": difficult[0] == "1",
        "problem": problem,
    }


def _number(text: str | None, where: str) -> float:
    """Return a coordinate; NaN and infinity pass, they are bad boxes, not bad files."""
    try:
        return ascii_number(text or "")
    except ValueError:
        problem = "nothing" if text is None else repr(text.strip())
        raise InputError(problem, where, "a number of pixels") from None


def _length(text: str | None, where: str) -> int | None:
    """Return a recorded width or height, None where it is left out, blank, 0 or -1."""
    if text is None or not text.strip():
        return None
    number = _number(text, where)
    if number in (0, -1):
        return None
    if not 1 <= number < 1e9 or number != int(number):
        raise InputError(f"{text.strip()!r}", where, "a positive whole number of pixels")
    return int(number)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", path, "UTF-8 text") from None


def read_bytes(path: Path) -> bytes:
    """Read a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", path, "one XML per listed image") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path, "a readable file") from None
