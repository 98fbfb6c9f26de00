"""Streams: class order, task sizes and shared settings of a data set, one file in config/streams/.

A file's streams are called by its prefix (default: the file's stem) and their own short name, e.g.
``voc`` and ``10_10``. Beside ``classes`` (the order) and ``text`` (names used as text where a class
name is not one) it holds what all methods share on this data, and under ``per_method`` what one
method does differently. ``order: seed`` shuffles the classes by the experiment's seed, as
class-incremental papers do; a file without ``classes`` takes them from the data. With ``families:
first word`` the classes of a task share their first word, so that they are easily confused; the
seed shuffles within families, and the tasks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import Field

from clclip.config.variants import Variant
from clclip.config.yaml_files import merged, read_yaml, shipped_folder
from clclip.core.artifacts import KindName
from clclip.core.errors import InputError, nearest
from clclip.core.models import Strict, parse


class StreamFile(Strict):
    """A file of ``config/streams/``."""

    base: str | None = Field(None, description="another file here, whose keys this one overrides")
    prefix: str | None = Field(None, description="what the names begin with; default: the stem")
    kind: KindName = Field(description="detection or classification")
    data: dict[str, Any] = Field(description="images and annotations, as in an experiment file")
    classes: list[str] = Field([], description="class order; left out, the data gives it")
    order: Literal["given", "seed"] = Field("given", description="seed: shuffled by the seed")
    families: Literal["first word"] | None = Field(None, description="what a task's classes share")
    text: dict[str, str] = Field({}, description="names used as text where a class name is not one")
    streams: dict[str, list[int] | list[list[str]]] = Field(
        description="by short name: sizes of the tasks, or their classes"
    )
    default: str | None = Field(None, description="the stream that the prefix alone stands for")
    clip: dict[str, Any] = Field({}, description="the frozen CLIP")
    training: dict[str, Any] = Field({}, description="how a task is trained")
    switches: dict[str, Any] = Field({}, description="switches that all methods share here")
    evaluation: dict[str, Any] = Field({}, description="how it is scored")
    per_method: dict[str, dict[str, Any]] = Field({}, description="what one method does otherwise")
    variants: dict[str, Variant] = Field({}, description="as in variants.yaml, for these streams")

    @property
    def shared(self) -> dict[str, Any]:
        """What the file says to every experiment, as an experiment file would."""
        keys = ("data", "clip", "training", "switches", "evaluation")
        return {"kind": self.kind} | {k: v for k in keys if (v := getattr(self, k))}


@dataclass(frozen=True)
class Stream:
    """A shipped task stream.

    Attributes:
        name: e.g. ``voc_10_10``.
        sizes: number of classes of each task.
        classes: class order; empty if the data gives it.
        shuffled: whether the experiment's seed shuffles the classes.
        families: whether the classes of a task share their first word.
        text: class -> text name, where they differ.
        file: its file's stem.
    """

    name: str
    sizes: tuple[int, ...]
    classes: tuple[str, ...]
    shuffled: bool = False
    families: bool = False
    text: dict[str, str] = field(default_factory=dict)
    file: str = ""

    def groups(self, seed: int, declared: Sequence[str] = ()) -> list[list[str]]:
        """Return the class groups of every task.

        Args:
            seed: the experiment's seed; matters only if the stream shuffles.
            declared: the data's own classes, for a stream without a class list.

        Raises:
            InputError: if the data has fewer classes than the stream needs.
        """
        classes = list(self.classes or declared)
        if len(classes) < sum(self.sizes):
            what = f"{len(classes)} classes in the data"
            raise InputError(what, f"stream {self.name}", f"at least {sum(self.sizes)}")
        draws = random.Random(f"class order {seed}")
        if self.shuffled:
            draws.shuffle(classes)
        if self.families:
            classes.sort(key=lambda name: name.split()[0])  # stable: the order within stays
        starts = [sum(self.sizes[:k]) for k in range(len(self.sizes))]
        groups = [classes[a : a + n] for a, n in zip(starts, self.sizes, strict=True)]
        if self.shuffled and self.families:
            draws.shuffle(groups)
        return groups


@cache
def stream_files() -> tuple[str, ...]:
    """Return the stems of the files of ``config/streams/``."""
    return tuple(sorted(path.stem for path in (shipped_folder() / "streams").glob("*.yaml")))


@cache
def stream_file(stem: str) -> StreamFile:
    """Read a file of ``config/streams/``, its base merged in.

    Raises:
        InputError: if anything in it is wrong.
    """
    path = shipped_folder() / "streams" / f"{stem}.yaml"
    values = read_yaml(path)
    if "base" in values:
        below = stream_file(str(values["base"])).model_dump(exclude_unset=True)
        below = {k: v for k, v in below.items() if k not in ("prefix", "default", "variants")}
        if "streams" in values:
            del below["streams"]
        values = merged(below, values)
    return parse(StreamFile, {"prefix": stem} | values, str(path))


@cache
def streams_of(stem: str) -> dict[str, Stream]:
    """Return the streams of a file by name; its prefix alone stands for the default."""
    file = stream_file(stem)
    result: dict[str, Stream] = {}
    for short, tasks in file.streams.items():
        stream = _stream(f"{file.prefix}_{short}".rstrip("_"), tasks, file, stem)
        result[stream.name] = stream
        if short == file.default:
            result[str(file.prefix)] = stream
    return result


def streams() -> dict[str, Stream]:
    """Return all shipped streams by name."""
    return {stream.name: stream for stem in stream_files() for stream in streams_of(stem).values()}


def files_for(name: str) -> list[str]:
    """Return the files that may hold the stream that a name begins with.

    Those whose stem begins with the name's first word, so that planning reads one file or two.
    """
    word = name.split("_")[0]
    return [stem for stem in stream_files() if stem.split("_")[0] == word]


def _stream(name: str, tasks: list[int] | list[list[str]], file: StreamFile, stem: str) -> Stream:
    """Build one stream from its sizes or its explicit groups."""
    groups = [task for task in tasks if isinstance(task, list)]
    return Stream(
        name,
        tuple(len(task) if isinstance(task, list) else task for task in tasks),
        tuple(name for group in groups for name in group) or tuple(file.classes),
        shuffled=file.order == "seed",
        families=file.families is not None,
        text=file.text,
        file=stem,
    )


def stream(name: str, where: str = "stream", kind: str | None = None) -> Stream:
    """Return a shipped stream; of two of one name (``smoke``) that of the kind.

    Raises:
        InputError: if there is none of that name; the message suggests the nearest.
    """
    stems = [stem for stem in files_for(name) if name in streams_of(stem)]
    if stems:
        stem = min(stems, key=lambda stem: stream_file(stem).kind != kind)
        return streams_of(stem)[name]
    known = streams()
    expected = f"a shipped stream (`clclip list`), e.g. {', '.join(list(known)[:3])}"
    raise InputError(f"unknown stream {name!r}{nearest(name, known)}", where, expected)
