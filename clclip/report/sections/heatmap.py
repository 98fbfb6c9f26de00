"""The class x task table of scores."""

from __future__ import annotations

from dataclasses import dataclass

from clclip.report.settings import Experiment, Setting


@dataclass(frozen=True)
class Cell:
    """One score; ``shade`` is its distance from 50 (percent), ``new`` its class's first task."""

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
class Heatmap:
    """Columns (experiment, its tasks) and one line per class, in the order of the stream."""

    columns: list[tuple[Experiment, list[int]]]
    lines: list[Line]

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


def heatmap(setting: Setting) -> Heatmap:
    """Return the scores of every class after every task, for every experiment of a setting."""
    columns = [(e, [task["task"] for task in e.summary["tasks"]]) for e in setting.experiments]
    lines = []
    for number, group in enumerate(setting.groups, start=1):
        for name in group:
            cells = [_cells(experiment, name, number) for experiment, _ in columns]
            lines.append(Line(name, number, cells))
    return Heatmap(columns, lines)


def _cells(experiment: Experiment, name: str, number: int) -> tuple[list[Cell], float | None]:
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
        shade = min(100, round(2 * abs(value - 50)))
        cells.append(Cell(value, shade, "high" if value >= 50 else "low", first))
    past = [cell.value for cell in cells[:-1] if cell.value is not None]
    final = cells[-1].value
    return cells, max(past) - final if past and final is not None else None
