"""One YOLO label file: a line per object, in fractions of the image.

``class x y width height`` (the centre first) is a box; ``class x y x y x y ...`` is a polygon or a
rotated box, of which the upright box around its corners is taken. A last number that is a
confidence or the id of a track, and key points, are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clclip.core.errors import InputError
from clclip.data.readers.fields import ascii_number
from clclip.data.readers.voc_xml import read_text

LINE_EXPECTED = "class x y width height, or class and x y of three corners or more, each 0 to 1"

Box = tuple[float, float, float, float]


@dataclass
class Labels:
    """The objects of one image.

    Attributes:
        lines: the number of each object's line, from 1.
        classes: its class index.
        boxes: left, top, width and height in fractions of the image; None where the line has no
            fit numbers.
        problems: by object, what its line lacks.
        extra: number of the first line with a confidence or track id, 0 without one.
        twice: number of the first line that stands there twice, 0 without one.
    """

    lines: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    boxes: list[Box | None] = field(default_factory=list)
    problems: dict[int, InputError] = field(default_factory=dict)
    extra: int = 0
    twice: int = 0


def read_labels(
    path: Path, names: Mapping[int, object], source: Path, keypoints: int = 0
) -> Labels:
    """Read one label file; an empty one has no objects.

    Args:
        path: the file.
        names: class index -> name.
        source: the file that names the classes, for messages.
        keypoints: how many numbers of key points follow a box.

    Raises:
        InputError: if it is no text, or a class index has no name.
    """
    labels = Labels()
    seen: set[str] = set()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if (key := " ".join(words)) in seen:
            labels.twice = labels.twice or number
            continue
        seen.add(key)
        where = f"{path}: line {number}"
        index = _class_index(words[0], names, where, source)
        try:
            box, extra = _box(words[1:], keypoints, where)
            if extra:
                labels.extra = labels.extra or number
        except InputError as error:
            labels.problems[len(labels.lines)], box = error, None
        labels.lines.append(number)
        labels.classes.append(index)
        labels.boxes.append(box)
    return labels


def _class_index(word: str, names: Mapping[int, object], where: str, source: Path) -> int:
    """Return the class index, which some tools write as 3.0.

    Raises:
        InputError: if it is no whole number, or one without a name.
    """
    if not re.fullmatch(r"-?\d{1,9}(\.0*)?", word, re.ASCII):
        raise InputError(
            f"class index {word!r:.60}", where, "a whole number first: " + LINE_EXPECTED
        )
    index = int(word.partition(".")[0])
    if index not in names:
        first, last = min(names), max(names)
        indices = f"{first} to {last}" if len(names) == last - first + 1 else "one of its indices"
        expected = f"{indices}, the {len(names)} names of {source.name}"
        raise InputError(f"class index {index}, which has no name", where, expected)
    return index


def _box(words: list[str], keypoints: int, where: str) -> tuple[Box, bool]:
    """Return the box of a line, and whether a number behind it was left unread.

    Raises:
        InputError: if there are too few or too many numbers, or one is none.
    """
    try:
        numbers = [ascii_number(word) for word in words]
    except ValueError:
        raise InputError(f"line {' '.join(words)!r:.60}", where, LINE_EXPECTED) from None
    count = len(numbers)
    if keypoints and count in (4 + keypoints, 5 + keypoints):
        return _upright(numbers[:4]), count > 4 + keypoints
    if count in (4, 5):
        return _upright(numbers[:4]), count == 5
    track = count >= 7 and count % 2 == 1 and words[-1].isdigit()
    if count < 6 or (count % 2 == 1 and not track):
        raise InputError(f"{count} numbers behind the class", where, LINE_EXPECTED)
    corners = numbers[:-1] if track else numbers
    xs, ys = corners[0::2], corners[1::2]
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), track


def _upright(numbers: list[float]) -> Box:
    """Return left, top, width, height of a box given by its centre."""
    x, y, width, height = numbers
    return x - width / 2, y - height / 2, width, height
