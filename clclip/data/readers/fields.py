"""Single values of a COCO json: ids, sizes, flags, boxes; each error names what JSON calls it."""

from __future__ import annotations

import json
import math
from typing import Any

from clclip.core.errors import InputError

# Evaluators hold ids in float64 arrays; beyond this two ids could become one.
MAX_ID = 2**53

TEXT_EXPECTED = "a text, in quotes where it reads as a number, true or null"

BOX_EXPECTED = "four numbers [x, y, width, height] in pixels"


def type_name(value: object) -> str:
    """Return the kind of a JSON or YAML value in JSON's words, for a message."""
    if value is None or isinstance(value, bool):
        return shown(value)
    if isinstance(value, int | float):
        return "a number"
    words: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}
    return words.get(type(value), "another value")


def shown(value: object, limit: int = 60) -> str:
    """Return ``value`` for a message as JSON spells it, cut to ``limit`` characters."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    try:
        if isinstance(value, list) and len(value) < limit:
            text = f"[{', '.join(shown(part) for part in value)}]"
        else:
            text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = "a huge number" if isinstance(value, int) else "a nested list"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def an_object(entry: object, where: str) -> dict[str, Any]:
    """Return ``entry`` if it is a JSON object.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{shown(entry)}", where, "an object {...}")
    return entry


def whole(value: object) -> int | None:
    """Return a whole number as int (1.0 is one), None if it is none; true is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -MAX_ID < value < MAX_ID or value != int(value):  # NaN and infinity fail the first
        return None
    return int(value)


def unique_id(entry: dict[str, Any], where: str, seen: dict[int, str]) -> int:
    """Return the entry's id and note it in ``seen``; it must be an integer used once.

    Raises:
        InputError: if it is not.
    """
    number = whole(entry.get("id"))
    if number is None:
        problem = f"id {shown(entry['id'])}" if "id" in entry else "no id"
        raise InputError(problem, f"{where}.id", _expected(entry.get("id"), "an integer"))
    if number in seen:
        what = f"duplicate id {number} (also {seen[number]})"
        raise InputError(what, f"{where}.id", "unique ids")
    seen[number] = where.rpartition(": ")[2]
    return number


def reference(entry: dict[str, Any], key: str, known: set[int], where: str, target: str) -> int:
    """Return ``entry[key]``, which must be one of the ids of ``target``.

    Raises:
        InputError: if it is not.
    """
    number = whole(entry.get(key))
    if number is None:
        problem = f"{key} {shown(entry[key])}" if key in entry else f"no {key}"
        raise InputError(problem, f"{where}.{key}", _expected(entry.get(key), f"an id of {target}"))
    if number not in known:
        what = f"{key} {number}, which is not in {target}, of annotation {entry['id']}"
        raise InputError(what, f"{where}.{key}", f"an id of {target}")
    return number


def length(entry: dict[str, Any], key: str, where: str) -> int | None:
    """Return a recorded width or height in pixels; None where it is left out, null, 0 or -1.

    Raises:
        InputError: if it is anything else but a positive whole number.
    """
    value = entry.get(key)
    number = whole(value)
    if value is None or number in (0, -1):
        return None
    if number is None or number < 1:
        expected = _expected(value, "a positive whole number of pixels")
        raise InputError(f"{key} {shown(value)}", f"{where}.{key}", expected)
    return number


def flag(entry: dict[str, Any], key: str, where: str) -> int:
    """Return a 0/1 flag; left out, null or blank means 0.

    Raises:
        InputError: if it is anything else.
    """
    value = entry.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        return 0
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    raise InputError(f"{key} {shown(value)}", f"{where}.{key}", _expected(value, "0 or 1"))


def ascii_number(text: str) -> float:
    """Return the number that a text writes in ASCII digits, without Python's underscores.

    Raises:
        ValueError: if it is none.
    """
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def box_numbers(box: object) -> list[float] | None:
    """Return ``box`` as four floats, which may be infinite or NaN; None if it is no such list."""
    if not isinstance(box, list) or len(box) != 4:
        return None
    numbers = [number for value in box if (number := number_or_none(value)) is not None]
    return numbers if len(numbers) == 4 else None


def number_or_none(value: object) -> float | None:
    """Return a JSON number as float (infinite where too large), None if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def area(value: object, box: list[float]) -> float:
    """Return the recorded area in square pixels if it is positive, else that of the box."""
    number = number_or_none(value)
    return number if number is not None and 0 < number < math.inf else box[2] * box[3]


def _expected(value: object, usual: str) -> str:
    """Return what is right: a text needs to hear that a number was due."""
    return f"a number, not text ({usual})" if isinstance(value, str) else usual
