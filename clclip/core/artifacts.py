"""The shape of the files that stages hand to each other, checked where they are read.

A file of an older version, of another program or edited by hand is then an InputError, with the
place in it, before anything is computed from it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, cast, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from clclip.core.errors import InputError, wanted
from clclip.core.files import read_json

KindName = Literal["detection", "classification"]
KIND_NAMES: tuple[str, ...] = get_args(KindName)
Number = Annotated[float, Field(allow_inf_nan=False)]
Score = Number | None
Id = int | str
Keys = tuple[str, ...]
Part = Literal["P", "C", "A"]
PARTS: tuple[Part, ...] = ("P", "C", "A")


@with_config(ConfigDict(strict=True))
class _Open(TypedDict):
    """An object that may hold more than is checked; a number as text is none."""


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


class PerPart(_Open):
    """A score over the previous (P), the current (C) and all (A) classes."""

    P: Score
    C: Score
    A: Score


class _ClassScore(_Open):
    score: Score
    objects: int


class Scores(_Open):
    """``scores.json``: the scores of one task, in percent; None where no test instance is."""

    metrics: PerPart
    per_class: dict[str, _ClassScore]
    metric: str
    images: str
    empty_classes: list[str]


class TaskRow(PerPart):
    """A task's line of a summary."""

    task: int
    per_class: dict[str, Score]


class UnseenRow(_Open):
    """AP of the classes of later tasks after a task, of ``unseen.json`` and of a summary."""

    task: int
    AP: Score
    per_class: dict[str, Score]


class Summary(_Open):
    """``summary.json`` of a seed or of an experiment; standard deviations are over its seeds."""

    experiment: str
    kind: KindName
    method: str
    seeds: Annotated[list[int], Field(min_length=1)]
    groups: list[list[str]]
    tasks: Annotated[list[TaskRow], Field(min_length=1)]
    final: PerPart
    forgetting: Score
    average: NotRequired[Score]
    std: NotRequired[PerPart]
    matrix: NotRequired[list[list[Score]]]
    metric: NotRequired[str]
    images: NotRequired[str]
    image_rule: NotRequired[str]
    fractions: NotRequired[list[Number]]
    dataset: NotRequired[Any]
    protocol: NotRequired[Any]
    per_seed: NotRequired[list[dict[str, Any]]]
    interval: NotRequired[Any]
    empty_classes: NotRequired[list[str]]
    unseen: NotRequired[list[UnseenRow]]
    versions: NotRequired[dict[str, Any]]


class ClipSource(_Open):
    """``clip`` of task.json: which CLIP, and where its files come from (``fetch_clip``)."""

    id: str
    model: str  # of open_clip, "embedded...", "hf-hub:...", "local-dir" or "config"
    tag: NotRequired[str | None]
    file: NotRequired[str]  # of the weights
    config: NotRequired[str]  # where the config came from, for messages
    config_text: NotRequired[str]  # the config itself
    revision: NotRequired[str]  # of a model on the hub
    tokenizer: NotRequired[str]  # folder of its files
    folder: NotRequired[str]  # of a model folder that holds the tower


class Task(_Open):
    """``task.json``: the resolved plan of one task, the only configuration of its stages."""

    kind: KindName
    method: str
    seed: int
    task: int  # from 1; that of the last group, 1 where all classes are trained at once
    groups: list[list[str]]  # class names by task, up to this one
    text: dict[str, str]  # class -> the text it is embedded by, where that is not its name
    data: dict[str, Any]
    clip: ClipSource
    training: dict[str, Any]
    switches: dict[str, Any]  # the method's options
    evaluation: dict[str, Any]
    features: NotRequired[dict[str, Any]]
    trains: NotRequired[Literal["all"]]
    start: NotRequired[str]  # digest of the model that the stream goes on from
    hidden: NotRequired[list[str]]  # columns of classes that were dropped from it
    origins: NotRequired[list[int]]  # of a merged one: per task, the task whose gate it shares


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


class Clip(_Open):
    """``clip.json``: the card of a CLIP that was put in place."""

    id: str
    model: str
    tag: str | None
    image_size: Annotated[int, Field(ge=1)]
    mean: list[Number]
    std: list[Number]
    embed_dim: int
    patch: int
    sha256: str
    source: NotRequired[str]
    parameters: NotRequired[int]
    config_sha256: NotRequired[str]  # of a CLIP that brings its own model config


SHAPES: dict[str, tuple[Any, str]] = {
    "boxes": (_Boxes, "split"),
    "sized boxes": (_SizedBoxes, "split"),
    "labels": (_Labels, "split"),
    "scores": (Scores, "score"),
    "summary": (Summary, "aggregate"),
    "features": (_Store, "features"),
    "image features": (_ImageStore, "features"),
    "clip": (Clip, "fetch-clip"),
}
"""What a file holds -> its shape, and the command that writes it."""

OLDER: dict[str, dict[str, Any]] = {"summary": {"image_rule": "overlap"}}
"""What a file holds -> keys that older versions did not write, and what they stood for."""


@cache
def _adapter(what: str) -> TypeAdapter[Any]:
    return TypeAdapter(SHAPES[what][0])


def read_stage_file(path: Path, what: str, keys: Keys = ()) -> dict[str, Any]:
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
        actual = f"got {problem['input']!r:.60}"
        words = wanted(problem["type"], problem["msg"])
        raise InputError(
            actual, f"{path}: {'.'.join(parts)}", f"{words}, as in {expected}"
        ) from None
    for key in keys:
        if key not in value:
            raise InputError(f"no key {key!r}", path, expected)
    return OLDER.get(what, {}) | value


def read_scores(path: Path) -> Scores:
    """Read the scores of a task, as ``read_stage_file`` does."""
    return cast(Scores, read_stage_file(path, "scores"))


def read_summary(path: Path, keys: Keys = ()) -> Summary:
    """Read the summary of a seed or an experiment, as ``read_stage_file`` does."""
    return cast(Summary, read_stage_file(path, "summary", keys))


def read_clip(folder: Path) -> Clip:
    """Read the card of the CLIP in a folder, as ``read_stage_file`` does."""
    return cast(Clip, read_stage_file(folder / "clip.json", "clip"))
