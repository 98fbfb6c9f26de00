"""The class x task table of scores."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from clclip.report.benchmark import Benchmark, Experiment


@dataclass(frozen=True)
class Cell:
    """One score; ``shade`` is its distance from the scale's middle, in percent of that side.

    ``new``: the first task of its class.
    """

    value: float | None
    shade: int = 0
    side: str = ""
    new: bool = False
    seen: bool = True


@dataclass(frozen=True)
class Line:
    """One class: its task, and per experiment its cells and what it lost."""

    name: str
    task: int
    cells: list[tuple[list[Cell], float | None]]


@dataclass(frozen=True)
class Scale:
    """The scores at which a colour scale begins, is neutral, and ends."""

    low: float = 0
    middle: float = 50
    high: float = 100

    def shade(self, value: float) -> tuple[int, str]:
        """Return the distance from the middle, 0 to 100 within the scale, and its side."""
        if value >= self.middle:
            part = (value - self.middle) / (self.high - self.middle)
            return min(100, round(100 * part)), "high"
        return min(100, round(100 * (self.middle - value) / (self.middle - self.low))), "low"


def scale_of(values: Iterable[float]) -> Scale:
    """Return a scale that spends its colours on the scores that occur: tens around them.

    Neutral is their median, to the nearest five, and at least ten off both ends: scores between 20
    and 80 use the whole scale, and where nearly all are 100 the others still stand out.
    """
    known = list(values)
    if not known:
        return Scale()
    low, high = 10 * math.floor(min(known) / 10), 10 * math.ceil(max(known) / 10)
    low, high = max(0, min(low, high - 20)), min(100, max(high, low + 20))
    middle = 5 * round(median(known) / 5)
    return Scale(low, min(max(middle, low + 10), high - 10), high)


@dataclass(frozen=True)
class Heatmap:
    """Columns (experiment, its tasks) and one line per class, in the order of the stream."""

    columns: list[tuple[Experiment, list[int]]]
    lines: list[Line]
    scale: Scale

    @property
    def width(self) -> int:
        """Number of score columns."""
        return sum(len(tasks) for _, tasks in self.columns)


DEEP = {"low": 92, "high": 85}
"""Shade from which white is easier to read than black on a light page, by side."""


def tone(shade: float, side: str) -> str:
    """Return the classes that say how dark a shaded cell is, for the colour of its text."""
    if shade <= 40 or side not in DEEP:
        return ""
    return "deep" if shade > DEEP[side] else "half"


def heatmap(benchmark: Benchmark) -> Heatmap:
    """Return the scores of every class after every task, for every experiment of a benchmark."""
    columns = [(e, [task["task"] for task in e.summary["tasks"]]) for e in benchmark.experiments]
    scores = [t["per_class"].values() for e in benchmark.experiments for t in e.summary["tasks"]]
    scale = scale_of(score for row in scores for score in row if score is not None)
    lines = []
    for number, group in enumerate(benchmark.groups, start=1):
        for name in group:
            cells = [_cells(experiment, name, number, scale) for experiment, _ in columns]
            lines.append(Line(name, number, cells))
    return Heatmap(columns, lines, scale)


def _cells(
    experiment: Experiment, name: str, number: int, scale: Scale
) -> tuple[list[Cell], float | None]:
    """Return one experiment's cells of one class, and best so far minus final."""
    cells = []
    for task in experiment.summary["tasks"]:
        if name not in task["per_class"]:
            cells.append(Cell(None, seen=False))
            continue
        value = task["per_class"][name]
        first = not experiment.joint and task["task"] == number
        if value is None:
            cells.append(Cell(None, new=first))
            continue
        cells.append(Cell(value, *scale.shade(value), first))
    past = [cell.value for cell in cells[:-1] if cell.value is not None]
    final = cells[-1].value
    return cells, max(past) - final if past and final is not None else None
