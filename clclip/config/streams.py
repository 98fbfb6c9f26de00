"""Protocols: class order, task sizes and text names of a task stream, shipped as data.

One YAML file per data set under ``protocols_data/``: ``classes`` (the order), ``text`` (names used
as text where a class name is not one), and ``protocols``, which maps a short name to task sizes or
to explicit groups. ``order: seed`` shuffles the classes by the experiment's seed, as
class-incremental papers do; a file without ``classes`` takes them from the data. With ``families:
first word`` the classes of a task share their first word, so that they are easily confused; the
seed shuffles within families, and the tasks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from clclip.core.errors import InputError, nearest

FOLDER = Path(__file__).parent / "protocols_data"


@dataclass(frozen=True)
class Protocol:
    """A shipped task stream.

    Attributes:
        name: e.g. ``voc_10_10``.
        sizes: number of classes of each task.
        classes: class order; empty if the data gives it.
        shuffled: whether the experiment's seed shuffles the classes.
        families: whether the classes of a task share their first word.
        text: class -> text name, where they differ.
    """

    name: str
    sizes: tuple[int, ...]
    classes: tuple[str, ...]
    shuffled: bool = False
    families: bool = False
    text: dict[str, str] = field(default_factory=dict)

    def groups(self, seed: int, declared: Sequence[str] = ()) -> list[list[str]]:
        """Return the class groups of every task.

        Args:
            seed: the experiment's seed; matters only if the protocol shuffles.
            declared: the data's own classes, for a protocol without a class list.

        Raises:
            InputError: if the data has fewer classes than the protocol needs.
        """
        classes = list(self.classes or declared)
        if len(classes) < sum(self.sizes):
            what = f"{len(classes)} classes in the data"
            raise InputError(what, f"protocol {self.name}", f"at least {sum(self.sizes)}")
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
def protocols() -> dict[str, Protocol]:
    """Return all shipped protocols by name."""
    found: dict[str, Protocol] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for short, tasks in data["protocols"].items():
            protocol = _protocol(f"{data['prefix']}_{short}".rstrip("_"), tasks, data)
            found[protocol.name] = protocol
    return found


def _protocol(name: str, tasks: list[Any], data: dict[str, Any]) -> Protocol:
    """Build one protocol from its sizes or its explicit groups."""
    classes = tuple(data.get("classes", ()))
    if isinstance(tasks[0], list):
        classes = tuple(c for group in tasks for c in group)
        tasks = [len(group) for group in tasks]
    return Protocol(
        name,
        tuple(tasks),
        classes,
        shuffled=data.get("order") == "seed",
        families=data.get("families") == "first word",
        text=dict(data.get("text", {})),
    )


def protocol(name: str, where: str = "protocol") -> Protocol:
    """Return a shipped protocol.

    Raises:
        InputError: if there is none of that name; the message suggests the nearest.
    """
    known = protocols()
    if name not in known:
        expected = f"a shipped protocol, e.g. {', '.join(list(known)[:3])}"
        raise InputError(f"unknown protocol {name!r}{nearest(name, known)}", where, expected)
    return known[name]
