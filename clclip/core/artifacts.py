"""The shape of the files that stages hand to each other, checked where they are read.

A file of an older version, of another program or edited by hand is then told as such, with the
place in it, before anything is computed from it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from clclip.core.errors import InputError
from clclip.core.files import read_json

Number = Annotated[float, Field(allow_inf_nan=False)]
Score = Number | None
Id = int | str


class _Open(TypedDict):
    """An object that may hold more than is checked; a number as text is none."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]  # pydantic's way


class _Category(_Open):
    id: Id
    name: str


class _Image(_Open):
    id: Id
    file_name: NotRequired[str]


class _SizedImage(_Image):
    width: int
    height: int


class _Labelled(_Open):
    id: Id
    file_name: str
    label: str


class _Box(_Open):
    image_id: Id
    category_id: Id
    bbox: Annotated[list[Number], Field(min_length=4, max_length=4)]


class _Boxes(_Open):
    images: list[_Image]
    annotations: list[_Box]
    categories: list[_Category]


class _SizedBoxes(_Open):
    images: list[_SizedImage]
    annotations: list[_Box]
    categories: list[_Category]


class _Labels(_Open):
    classes: list[str]
    images: list[_Labelled]


class _Three(_Open):
    P: Score
    C: Score
    A: Score


class _ClassScore(_Open):
    score: Score
    objects: int


class _Scores(_Open):
    metrics: _Three
    per_class: dict[str, _ClassScore]
    metric: str
    images: str
    empty_classes: list[str]


class _TaskRow(_Three):
    task: int
    per_class: dict[str, Score]


class _Summary(_Open):
    experiment: str
    kind: Literal["detection", "classification"]
    method: str
    seeds: Annotated[list[int], Field(min_length=1)]
    groups: list[list[str]]
    tasks: Annotated[list[_TaskRow], Field(min_length=1)]
    final: _Three
    forgetting: Score
    average: NotRequired[Score]
    std: NotRequired[_Three]
    matrix: NotRequired[list[list[Score]]]
    metric: NotRequired[str]
    images: NotRequired[str]
    image_rule: NotRequired[str]
    fractions: NotRequired[list[Number]]


class _Store(_Open):
    format: int
    images: list[Id]
    size: Annotated[int, Field(ge=1)]
    stride: Annotated[Number, Field(gt=0)]
    taps: list[int]
    flip: bool
    shapes: dict[str, list[int]]
    extents: list[list[Annotated[Number, Field(gt=0)]]]


class _ImageStore(_Open):
    format: int
    clip: str
    size: Annotated[int, Field(ge=0)]
    mirror: bool
    images: list[Id]
    names: list[str]
    shapes: dict[str, list[int]]


class _Card(_Open):
    id: str
    model: str
    tag: str | None
    image_size: Annotated[int, Field(ge=1)]
    mean: list[Number]
    std: list[Number]
    embed_dim: int
    patch: int
    sha256: str


SHAPES: dict[str, tuple[Any, str]] = {
    "boxes": (_Boxes, "split"),
    "sized boxes": (_SizedBoxes, "split"),
    "labels": (_Labels, "split"),
    "scores": (_Scores, "score"),
    "summary": (_Summary, "aggregate"),
    "features": (_Store, "features"),
    "image features": (_ImageStore, "features"),
    "clip": (_Card, "fetch-clip"),
}
"""What a file holds -> its shape, and the command that writes it."""

OLDER: dict[str, dict[str, Any]] = {"summary": {"image_rule": "overlap"}}
"""What a file holds -> keys that older versions did not write, and what they stood for."""


@cache
def _adapter(what: str) -> TypeAdapter[Any]:
    return TypeAdapter(SHAPES[what][0])


def read_stage_file(path: Path, what: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a file that an earlier stage wrote.

    Args:
        path: the file.
        what: a key of ``SHAPES``.
        keys: further keys that it must have, of whatever type.

    Raises:
        InputError: as ``read_json``, or for the first thing in it that is not as it should be.
    """
    value = read_json(path)
    expected = f"a file made by `clclip {SHAPES[what][1]}`"
    if not isinstance(value, dict):
        raise InputError(f"a {type(value).__name__}", path, expected)
    try:
        _adapter(what).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        parts = [str(part) for part in problem["loc"]]
        if problem["type"] == "missing":
            where = ": ".join([str(path), *filter(None, [".".join(parts[:-1])])])
            raise InputError(f"no key {parts[-1]!r}", where, expected) from None
        found = f"got {problem['input']!r:.60}"
        wanted = problem["msg"].removeprefix("Input should be ")
        raise InputError(
            found, f"{path}: {'.'.join(parts)}", f"{wanted}, as in {expected}"
        ) from None
    for key in keys:
        if key not in value:
            raise InputError(f"no key {key!r}", path, expected)
    return OLDER.get(what, {}) | value
