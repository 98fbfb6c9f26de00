"""Reading what Label Studio exports (JSON and JSON-MIN): the boxes of each image as a person left.

Of several annotations of one task the one changed last counts, none that was skipped. Rectangles
may be rotated, and polygons may be drawn: the upright box around them is taken. What has no box or
not exactly one class is refused rather than left out: a person has drawn it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from clclip.core.errors import InputError
from clclip.data.readers.annotated import check_class_name
from clclip.data.readers.fields import an_object, number_or_none, shown

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
_BOX = "x, y, width and height in percent"
_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")
_NO_BOX = ("brushlabels", "keypointlabels", "brush", "keypoint")
_SHAPE = ("x", "y", "width", "height", "radiusX", "radiusY", "points", "rotation")

_Row = tuple[Mapping[str, Any], Mapping[str, Any], str]  # its value, itself, its place in the file


@dataclass
class Reviewed:
    """One image of an export.

    Attributes:
        names: names the image may have in the data set, the surest first.
        reviewed: whether a person has looked at it; else the boxes are a model's.
        boxes: (class, left, top, width, height), in shares of the image.
        where: its place in the file, for messages.
    """

    names: list[str]
    reviewed: bool
    where: str
    boxes: list[tuple[str, float, float, float, float]] = field(default_factory=list)


def read_tasks(tasks: Any, path: Path) -> list[Reviewed]:
    """Read the tasks of an export.

    Raises:
        InputError: if it is none, or a box or class in it is wrong.
    """
    if not isinstance(tasks, list) or not tasks:
        what = "no task" if tasks == [] else "no list of tasks"
        raise InputError(what, path, "Label Studio's export as JSON or JSON-MIN")
    reviewed = []
    for n, row in enumerate(tasks):
        task = an_object(row, f"{path}: [{n}]")
        number = f" (task {task['id']})" if isinstance(task.get("id"), int) else ""
        reviewed.append(_read(task, f"{path}: [{n}]{number}"))
    return reviewed


def _read(task: Mapping[str, Any], where: str) -> Reviewed:
    """Read one task."""
    inner = task.get("data")
    data: Mapping[str, Any] = inner if isinstance(inner, dict) else task
    given = next((data[key] for key in ("image", "img", "url") if data.get(key)), None)
    if given is None:
        links = [v for v in data.values() if isinstance(v, str) and re.search(r"\.\w{3,4}$", v)]
        given = next(iter(links), None)
    if not isinstance(given, str):
        raise InputError("a task without an image", where, 'data: {"image": ...}')
    names = _names(given)
    if isinstance(data.get("file_name"), str):
        names.insert(0, data["file_name"])
    if "annotations" not in task and "predictions" not in task:  # JSON-MIN
        lists = [v for v in task.values() if isinstance(v, list)]
        short: list[_Row] = [
            (row, row, f"{where}: label[{n}]")
            for part in lists
            for n, row in enumerate(part)
            if isinstance(row, dict)
        ]
        return Reviewed(names, True, where, _boxes(short, names[0]))
    done = [a for a in _objects(task, "annotations", where) if not a.get("was_cancelled")]
    latest = max(done, key=lambda a: str(a.get("updated_at") or ""), default=None)
    chosen = next(iter(_objects(task, "predictions", where)), {}) if latest is None else latest
    rows: list[_Row] = [
        (row["value"], row, f"{where}: result[{n}]")
        for n, row in enumerate(_objects(chosen, "result", where))
        if isinstance(row.get("value"), dict)
    ]
    return Reviewed(names, latest is not None, where, _boxes(rows, names[0]))


def _boxes(rows: Sequence[_Row], image: str) -> list[tuple[str, float, float, float, float]]:
    """Return the boxes of the regions among the rows of an image.

    A shape may come without a label and once more with it (``Rectangle`` beside ``Labels``), or
    once more with an answer about it: one label for it all is enough.

    Raises:
        InputError: if a region has no box, or not exactly one label.
    """
    boxes = []
    labelled = [_shape(value) for value, _, _ in rows if _labels(value)]
    for value, row, where in rows:
        kind = next((k for k in _NO_BOX if k == row.get("type") or k in value), None)
        if kind is not None:
            expected = "rectangles, polygons or ellipses, which have a box"
            raise InputError(f"a region of type {kind} on image {image!r}", where, expected)
        labels = _labels(value)
        if len(labels) > 1:
            what = f"a region with the labels {shown(labels)} on image {image!r}"
            raise InputError(what, where, "one label a region")
        if labels:
            boxes.append(_box(value, row, where))
        elif _shape(value) and _shape(value) not in labelled:
            what = f"a region without a label on image {image!r}"
            raise InputError(what, where, "a label, or the region deleted")
    return boxes


def _objects(given: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    """Return a list of objects, empty where there is none.

    Raises:
        InputError: if it is something else.
    """
    rows = given.get(key) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(shown(rows), f"{where}: {key}", "a list of objects, as Label Studio's")
    return rows


def _shape(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a region lies, empty if the value is none."""
    shape = {key: value[key] for key in _SHAPE if key in value}
    return shape if shape.keys() & {"width", "radiusX", "points"} else {}


def _labels(value: Mapping[str, Any]) -> list[Any]:
    """Return the different labels of a region."""
    rows = [value[key] for key in _LABELS if isinstance(value.get(key), list)]
    every = [label for row in rows for label in row]
    return [label for n, label in enumerate(every) if label not in every[:n]]


def _box(
    value: Mapping[str, Any], row: Mapping[str, Any], where: str
) -> tuple[str, float, float, float, float]:
    """Return the class and the upright box of a region, in shares of the image."""
    name = check_class_name(_labels(value)[0], where)
    if isinstance(value.get("points"), list):
        corners = value["points"]
    elif "radiusX" in value:
        radii = [number_or_none(value.get(key)) for key in ("x", "y", "radiusX", "radiusY")]
        numbers = [number for number in radii if number is not None]
        if len(numbers) < len(radii):
            raise InputError(f"ellipse {shown(dict(value))}", where, "x, y and radii in percent")
        x, y, across, down = numbers
        corners = [(x - across, y - down), (x + across, y + down)]
    else:
        given = [number_or_none(value.get(key)) for key in ("x", "y", "width", "height")]
        sides = [number for number in given if number is not None]
        if len(sides) < len(given):
            raise InputError(f"box {shown(dict(value))}", where, _BOX)
        wide = number_or_none(row.get("original_width")) or 1.0
        high = number_or_none(row.get("original_height")) or 1.0
        turn = number_or_none(value.get("rotation")) or 0.0
        corners = _corners(sides, turn, wide, high)
    try:
        xs, ys = [float(x) / 100 for x, _ in corners], [float(y) / 100 for _, y in corners]
    except (TypeError, ValueError):
        raise InputError(f"points {shown(corners)}", where, "x and y in percent") from None
    if not xs or not all(map(math.isfinite, xs + ys)):
        raise InputError(f"box {shown(dict(value))}", where, _BOX)
    if min(max(xs), 1) <= max(min(xs), 0) or min(max(ys), 1) <= max(min(ys), 0):
        raise InputError(f"box {shown(dict(value))}", where, "a box with an area inside the image")
    return name, min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _corners(
    sides: list[float], degrees: float, wide: float, high: float
) -> list[tuple[float, float]]:
    """Return the corners in percent of a rectangle that is turned around its first corner."""
    x, y, w, h = sides
    if not degrees:
        return [(x, y), (x + w, y + h)]
    angle = math.radians(degrees)
    corners = []
    for across, down in ((0, 0), (w, 0), (0, h), (w, h)):
        dx, dy = across * wide, down * high
        corners.append(
            (
                x + (dx * math.cos(angle) - dy * math.sin(angle)) / wide,
                y + (dx * math.sin(angle) + dy * math.cos(angle)) / high,
            )
        )
    return corners


def _names(link: str) -> list[str]:
    """Return the names of the file that a link may mean, the fullest first."""
    parts = urlsplit(link)
    path = unquote(parts.path) if parts.scheme or "?" in link else link
    local = parse_qs(parts.query).get("d")
    if local:
        path = local[0]
    names = [path, f"/{path.lstrip('/')}"]
    names += [path.rpartition("/")[2]]
    names += [_UPLOADED.sub("", names[-1])]
    return list(dict.fromkeys(names))
