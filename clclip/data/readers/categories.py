"""The categories of a COCO json. One that no annotation uses never blocks.

Roboflow writes a root category of the data set's name, which may be that of a class; other tools
leave placeholders without a name. Where such a category cannot be used it is left out and noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.names import spelt
from clclip.data.readers.annotated import Annotated, check_class_name
from clclip.data.readers.fields import an_object, shown, unique_id, whole

LEFT_OUT = "category without annotations left out"


def read_categories(
    entries: list[Any], path: Path, used: set[int]
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Return ({"id", "name"} of each category in order, notes of those left out).

    Args:
        entries: the list as it stands in the json.
        path: the json, for messages.
        used: the category ids of the annotations.

    Raises:
        InputError: if a used category has no fit name, or the id or the name of another used one.
    """
    valid: dict[int, dict[str, Any]] = {}
    notes: list[tuple[str, str]] = []
    ids: dict[int, str] = {}
    names: dict[str, tuple[int, str]] = {}
    for strict in (True, False):  # the used ones first: they are not to lose their names to others
        for n, entry in enumerate(entries):
            entry = an_object(entry, f"{path}: categories[{n}]")
            if (_meant(entry.get("id")) in used) is not strict:
                continue
            try:
                valid[n] = _category(entry, n, path, ids, names)
            except InputError as error:
                if strict:
                    raise
                notes.append((LEFT_OUT, _reason(entry, error)))
    if not valid:
        raise InputError("no category", f"{path}: categories", "at least one class")
    return [valid[n] for n in sorted(valid)], notes


def _meant(number: object) -> int | None:
    """Return the id that is meant, though it be written as text."""
    if isinstance(number, str) and re.fullmatch(r"\s*-?\d{1,15}\s*", number, re.ASCII):
        return int(number)
    return whole(number)


def _category(
    entry: dict[str, Any],
    n: int,
    path: Path,
    ids: dict[int, str],
    names: dict[str, tuple[int, str]],
) -> dict[str, Any]:
    """Return {"id", "name"} of one category and note both as taken."""
    where = f"{path}: categories[{n}]"
    name = check_class_name(entry.get("name"), f"{where}.name")
    if name in names:
        other, written = names[name]
        what = f"duplicate class name {name!r} (also categories[{other}])"
        if written != entry["name"]:
            what += f", written {spelt(written)} and {spelt(entry['name'])}"
        raise InputError(what, f"{where}.name", "unique names")
    number = unique_id(entry, where, ids)
    names[name] = n, entry["name"]
    return {"id": number, "name": name}


def _reason(entry: dict[str, Any], error: InputError) -> str:
    """Return a category that is left out, for its note."""
    return f"id {shown(entry.get('id'))}, name {shown(entry.get('name'))} ({error.what})"


def without_clashes(splits: dict[str, Annotated]) -> None:
    """Drop categories that a split does not use where the other has their id or name for another.

    What clashes and is used in both is left to ``merged_classes``, which refuses it.
    """
    train, test = splits["train"], splits["test"]
    for split, other in ((test, train), (train, test)):
        used = {annotation["category_id"] for annotation in split.annotations}
        names = {category["id"]: category["name"] for category in other.categories}
        ids = {name: number for number, name in names.items()}
        fit = []
        for category in split.categories:
            number, name = category["id"], category["name"]
            clash = names.get(number, name) != name or ids.get(name, number) != number
            if clash and number not in used:
                split.notes.append((LEFT_OUT, f"id {number}, name {name!r} of {split.source.name}"))
            else:
                fit.append(category)
        split.categories = fit


def renamed(entries: Iterable[Any], categories: list[dict[str, Any]]) -> bool:
    """Return whether a category is named otherwise than it was written."""
    written = {whole(entry.get("id")): entry.get("name") for entry in entries}
    return any(written.get(category["id"]) != category["name"] for category in categories)
