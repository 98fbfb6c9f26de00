"""The same methods under several conditions: scores on earlier, last and all classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clclip.evaluation.continual import mean
from clclip.report.benchmark import Benchmark, Experiment
from clclip.report.sections.table import number
from clclip.report.svg import tag

NAMES, AXIS, FIGURE, LINE = 176, 84, 46, 27  # widths of a row's parts and its height, in px
HEAD, FOOT = 50, 46
KEY = 516  # width of the key below
KEEPS, LEARNS = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion


@dataclass(frozen=True)
class Outcome:
    """How one method ended under one condition, in percent.

    Attributes:
        previous: score on the classes of earlier tasks.
        current: score on those of the last task.
        all: score on all.
        std: deviation of ``all`` over seeds, None for one.
    """

    previous: float | None
    current: float | None
    all: float | None
    std: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Methods under conditions; ``cells[row][column]`` is None where there is no result.

    Attributes:
        conditions: what differs, in one or two lines of text each.
        methods: (name, whether it is an upper bound), best first.
        cells: a row per method, a column per condition.
    """

    conditions: list[tuple[str, ...]]
    methods: list[tuple[str, bool]]
    cells: list[list[Outcome | None]]

    def best(self, column: int) -> float | None:
        """Return the best score on all classes of a condition, upper bounds left out."""
        values = [
            cell.all
            for (_, upper), row in zip(self.methods, self.cells, strict=True)
            if not upper and (cell := row[column]) is not None and cell.all is not None
        ]
        return max(values, default=None)

    def known(self) -> Comparison:
        """Return the part that has results, without empty rows and columns."""
        rows = [n for n, row in enumerate(self.cells) if any(row)]
        columns = [n for n in range(len(self.conditions)) if any(row[n] for row in self.cells)]
        return Comparison(
            [self.conditions[n] for n in columns],
            [self.methods[n] for n in rows],
            [[self.cells[n][column] for column in columns] for n in rows],
        )


def side_by_side(benchmarks: Sequence[Benchmark]) -> list[Comparison]:
    """Return a comparison per kind of which several benchmarks share a method."""
    result = []
    for detection in (True, False):
        own = [benchmark for benchmark in benchmarks if benchmark.detection is detection]
        names = [{e.label for e in benchmark.experiments} for benchmark in own]
        if any(a & b for k, a in enumerate(names) for b in names[:k]):
            result.append(_compared(own))
    return result


def _compared(benchmarks: Sequence[Benchmark]) -> Comparison:
    """Gather the final scores of benchmarks of one kind."""
    by_name = [{e.label: e for e in benchmark.experiments} for benchmark in benchmarks]
    joint = {e.label: e.joint for own in by_name for e in own.values()}

    def order(name: str) -> tuple[bool, float]:
        finals = [own[name].summary["final"]["A"] for own in by_name if name in own]
        average = mean(finals)
        return joint[name], 1.0 if average is None else -average

    methods = sorted(joint, key=order)
    cells = [[_outcome(own.get(name)) for own in by_name] for name in methods]
    titles = [tuple(benchmark.title.split(", ", 1)) for benchmark in benchmarks]
    return Comparison(titles, [(name, joint[name]) for name in methods], cells)


def _outcome(experiment: Experiment | None) -> Outcome | None:
    """Return how an experiment ended."""
    if experiment is None:
        return None
    final, std = experiment.summary["final"], experiment.summary["std"]
    return Outcome(final["P"], final["C"], final["A"], std["A"])


def drawn(comparison: Comparison) -> Markup:
    """Return a comparison as SVG: a dot for the earlier classes, a square for the last task's.

    Colours are those of the page; see ``standalone``.
    """
    columns, rows = len(comparison.conditions), len(comparison.methods)
    width = NAMES + max(columns * (AXIS + FIGURE) + 6, KEY)
    height = HEAD + rows * LINE + FOOT
    parts = [_head(comparison, column, rows) for column in range(columns)]
    for row, (name, upper) in enumerate(comparison.methods):
        y = HEAD + row * LINE + LINE / 2
        look = "normal" if upper else "600"
        parts.append(_text(name, NAMES - 10, y + 4, "end", weight=look))
        for column in range(columns):
            parts.append(_cell(comparison, row, column, NAMES + column * (AXIS + FIGURE), y))
    y = height - 14.0
    parts += [
        _earlier_mark(NAMES, y),
        _text("earlier classes: who keeps", NAMES + 10, y + 4),
        _learned(NAMES + 190, y),
        _text("last task's classes: who learns", NAMES + 200, y + 4),
        tag("path", d=f"M{NAMES + 416} {y - 7}V{y + 7}", stroke="var(--faint, #666c76)",
            stroke_dasharray="2 2"),
        _text("joint training", NAMES + 424, y + 4),
    ]  # fmt: skip
    return tag(
        "svg", *parts, viewBox=f"0 0 {width} {height}", width=width, height=height, role="group",
        xmlns="http://www.w3.org/2000/svg", aria_label="Methods under several conditions",
    )  # fmt: skip


def standalone(picture: Markup) -> str:
    """Return a drawn comparison with colours of its own, as a file that needs no page."""
    return re.sub(r"var\(--[a-z]+, (#[0-9a-f]{6})\)", r"\1", str(picture)) + "\n"


def _head(comparison: Comparison, column: int, rows: int) -> Markup:
    """Return a condition's name, its axis from 0 to 100 and the level of its upper bound."""
    left = NAMES + column * (AXIS + FIGURE)
    bottom = HEAD + rows * LINE
    parts = []
    for line, text in enumerate(comparison.conditions[column][:2]):
        shown = text if len(text) <= 22 else text[:21] + "…"
        parts.append(_text(shown, left, 14 + 14 * line, weight="600" if line == 0 else "normal"))
    for value in (0, 50, 100):
        x = left + AXIS * value / 100
        parts += [
            tag("path", d=f"M{x:.1f} {HEAD - 4}V{bottom}", stroke="var(--line, #ddd8cc)"),
            _text(str(value), x, bottom + 14, "middle", size=10, colour="var(--faint, #666c76)"),
        ]
    uppers = [
        cell.all
        for (_, upper), row in zip(comparison.methods, comparison.cells, strict=True)
        if upper and (cell := row[column]) is not None and cell.all is not None
    ]
    for upper_score in uppers[:1]:
        x = left + AXIS * upper_score / 100
        parts.append(
            tag("path", d=f"M{x:.1f} {HEAD - 4}V{bottom}", stroke="var(--faint, #666c76)",
                stroke_dasharray="2 2")
        )  # fmt: skip
    return tag("g", tag("title", ", ".join(comparison.conditions[column])), *parts)


def _cell(comparison: Comparison, row: int, column: int, left: float, y: float) -> Markup:
    """Return one result: its two marks, joined, and the score on all classes."""
    name, upper = comparison.methods[row]
    cell = comparison.cells[row][column]
    if cell is None:
        return _text("·", left + AXIS + 8, y + 4, colour="var(--faint, #666c76)")
    text = f"{name}, {', '.join(comparison.conditions[column])}: "
    text += f"earlier {number(cell.previous)}, last {number(cell.current)}, all {number(cell.all)}"
    parts = [tag("title", text)]
    marks = [
        (v, mark)
        for v, mark in ((cell.previous, _earlier_mark), (cell.current, _learned))
        if v is not None
    ]
    if len(marks) == 2:
        ends = [left + AXIS * value / 100 for value, _ in marks]
        parts.append(
            tag("path", d=f"M{ends[0]:.1f} {y:.1f}H{ends[1]:.1f}", stroke="var(--soft, #565c66)",
                stroke_width=2)
        )  # fmt: skip
    parts += [mark(left + AXIS * value / 100, y) for value, mark in marks]
    best = not upper and cell.all is not None and cell.all == comparison.best(column)
    if cell.all is not None:
        bold = "700" if best else "normal"
        parts.append(_text(number(cell.all), left + AXIS + 10, y + 4, weight=bold))
    return tag("g", *parts, tabindex=0, role="img", aria_label=text)


def _earlier_mark(x: float, y: float) -> Markup:
    """Return the mark of the score on earlier classes."""
    return tag("circle", cx=x, cy=y, r=5, fill=KEEPS, stroke="var(--paper, #fdfcf9)")


def _learned(x: float, y: float) -> Markup:
    """Return the mark of what was learned."""
    return tag("rect", x=x - 4, y=y - 4, width=8, height=8, fill="var(--paper, #fdfcf9)",
               stroke=LEARNS, stroke_width=2.2)  # fmt: skip


def _text(
    text: str,
    x: float,
    y: float,
    anchor: str = "start",
    *,
    size: int = 12,
    weight: str = "normal",
    colour: str = "var(--ink, #1b1d21)",
) -> Markup:
    """Return a text that needs no style sheet."""
    return tag(
        "text", text, x=float(x), y=float(y), text_anchor=anchor, font_size=size,
        font_weight=weight, font_family="system-ui, sans-serif", fill=colour,
    )  # fmt: skip
