"""Inline SVG charts of the page: curves over tasks and stacked bars of causes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from clclip.core.artifacts import PARTS, Part
from clclip.evaluation.continual import deviation
from clclip.report.benchmark import Benchmark, Experiment, curve
from clclip.report.sections.table import number
from clclip.report.svg import marker, nice_bounds, path, tag

WIDTH, HEIGHT = 330, 250
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 12, 42
DASHES = (None, "7 4", "2 4", "9 3 2 3", "12 4")


def shape_of(benchmark: Benchmark, experiment: Experiment) -> int:
    """Return the experiment's place among the contestants, which fixes marker and dash."""
    return benchmark.experiments.index(experiment) % 5


def legend_mark(benchmark: Benchmark, experiment: Experiment) -> Markup:
    """Return the line and marker of an experiment, to stand before its name."""
    shape = shape_of(benchmark, experiment)
    line = tag(
        "path", d="M1 8H29", stroke=experiment.css, stroke_width=2.2,
        stroke_dasharray="1 4" if experiment.joint else DASHES[shape], fill="none",
    )  # fmt: skip
    point = "" if experiment.joint else marker(shape, 15, 8, experiment.css)
    return tag(
        "svg", line, point, class_="mark", width=30, height=16, viewBox="0 0 30 16",
        aria_hidden="true", focusable="false",
    )  # fmt: skip


def curves(benchmark: Benchmark, part: Part) -> Markup:
    """Return the chart of one of P, C, A after each task, one line per experiment.

    A band shows one standard deviation where there are seeds (A only: the others are not stored per
    seed). The upper bound has one task and stands as a dotted level.
    """
    series = {id(e): curve(benchmark, e, part) for e in benchmark.experiments}
    ends = [t[p] for e in benchmark.experiments for t in e.summary["tasks"] for p in PARTS]
    ends += [v for e in benchmark.contestants for row in _spread(e) for v in row[1:]]
    # One scale for P, C and A: they are read against each other.
    low, high, step = nice_bounds([value for value in ends if value is not None])
    last = max(len(benchmark.groups), 1)
    first = 2 if part == "P" and last > 2 else 1

    def x(task: float) -> float:
        span = last - first
        inner = WIDTH - LEFT - RIGHT - 28
        return LEFT + 14 + (inner / 2 if span == 0 else inner * (task - first) / span)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    drawn = [_axes(part, benchmark, (low, high, step), (first, last), x, y)]
    lines, points = [], []
    for experiment in reversed(benchmark.experiments):
        name, colour = experiment.label, experiment.css
        known = series[id(experiment)]
        shape = shape_of(benchmark, experiment)
        if experiment.joint:
            for _, value in known[-1:]:
                text = f"{name}: {number(value)} (all classes at once)"
                lines.append(
                    tag("g", tag("title", text), tag(
                        "path", d=f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}", stroke=colour,
                        stroke_width=2, stroke_dasharray="1 4", stroke_linecap="round",
                    ), tabindex=0, role="img", aria_label=text)
                )  # fmt: skip
            continue
        if part == "A":
            lines.append(_band(experiment, x, y))
        if len(known) > 1:
            lines.append(
                tag("path", d=path([(x(t), y(v)) for t, v in known]), fill="none", stroke=colour,
                    stroke_width=2.2, stroke_dasharray=DASHES[shape], stroke_linejoin="round")
            )  # fmt: skip
        for task, value in known:
            text = f"{name}, after task {task}: {number(value)}"
            points.append(
                tag("g", tag("title", text), marker(shape, x(task), y(value), colour),
                    class_="point", tabindex=0, role="img", aria_label=text)
            )  # fmt: skip
    return tag(
        "svg", *drawn, *lines, *points, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="group", aria_label=f"{benchmark.part_name(part)} after each task",
    )  # fmt: skip


def _axes(
    part: str,
    benchmark: Benchmark,
    levels: tuple[float, float, float],
    tasks: tuple[int, int],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> Markup:
    """Return grid, ticks and labels."""
    low, high, step = levels
    marks = []
    value = low
    while value <= high + 1e-9:
        marks.append(tag("path", d=f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}", class_="grid"))
        marks.append(
            tag(
                "text", f"{value:.0f}", x=LEFT - 8, y=y(value) + 4, class_="tick", text_anchor="end"
            )
        )
        value += step
    every = max(1, (tasks[1] - tasks[0] + 1 + 9) // 10)
    for task in range(tasks[0], tasks[1] + 1):
        if (tasks[1] - task) % every == 0:
            marks.append(
                tag("text", str(task), x=x(task), y=HEIGHT - BOTTOM + 18, class_="tick",
                    text_anchor="middle")
            )  # fmt: skip
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = "after task"
    marks.append(tag("text", label, x=middle, y=HEIGHT - 6, class_="label", text_anchor="middle"))
    return tag("g", *marks, aria_hidden="true")


def _spread(experiment: Experiment) -> list[tuple[int, float, float]]:
    """Return (task, A - s, A + s) with the deviation s over seeds; empty for one seed."""
    curves_of = [row["curve"] for row in experiment.summary.get("per_seed", [])]
    tasks = experiment.summary["tasks"]
    if len(tasks) < 2 or any(len(curve) != len(tasks) for curve in curves_of):
        return []
    bands = []
    for task, values in zip(tasks, zip(*curves_of, strict=True), strict=False):
        wide = deviation(values)
        if wide is None or task["A"] is None:
            return []
        bands.append((task["task"], max(0.0, task["A"] - wide), min(100.0, task["A"] + wide)))
    return bands


def _band(
    experiment: Experiment, x: Callable[[float], float], y: Callable[[float], float]
) -> Markup:
    """Return the area of mean ± one standard deviation over seeds, empty for one seed."""
    spread = _spread(experiment)
    if not spread:
        return Markup("")
    upper = [(x(task), y(high)) for task, _, high in spread]
    lower = [(x(task), y(low)) for task, low, _ in spread]
    return tag("path", d=path([*upper, *lower[::-1]]) + "Z", fill=experiment.css, opacity=0.14)


def bars(
    rows: Sequence[tuple[str, Mapping[str, float], float]],
    causes: Mapping[str, str],
    unit: str,
    longest: float = 1.0,
) -> Markup:
    """Return stacked horizontal bars.

    Args:
        rows: (label, cause -> amount, net amount to write) from top to bottom.
        causes: cause -> colour, in stacking order; the caller shows the legend.
        unit: what the amounts are, for the axis and the tooltips.
        longest: length that the axis has at least, so that charts can share their scale.
    """
    width, line, left = 720, 40, 180
    largest = max([sum(amounts.values()) for _, amounts, _ in rows] + [longest, 1.0])
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, 100) if largest / s <= 6 or s == 100)
    top = step * -(-largest // step)
    height = line * len(rows) + 44
    scale = (width - left - 70) / top
    parts = []
    value = 0.0
    while value <= top + 1e-9:
        at = left + value * scale
        parts.append(tag("path", d=f"M{at:.1f} 4V{height - 36}", class_="grid"))
        parts.append(tag("text", f"{value:.0f}", x=at, y=height - 20, class_="tick",
                         text_anchor="middle"))  # fmt: skip
        value += step
    parts.append(tag("text", unit, x=left + top * scale / 2, y=height - 3, class_="label",
                     text_anchor="middle"))  # fmt: skip
    for index, (name, amounts, net) in enumerate(rows):
        y = 8 + index * line
        parts.append(tag("text", name if len(name) < 26 else name[:24] + "…", x=left - 10, y=y + 17,
                         class_="name", text_anchor="end"))  # fmt: skip
        at = float(left)
        for cause, colour in causes.items():
            size = amounts.get(cause, 0.0) * scale
            if size > 0.05:
                text = f"{name}: {cause}, {amounts[cause]:.1f} {unit}"
                parts.append(
                    tag("rect", tag("title", text), x=at, y=y, width=size, height=24, fill=colour,
                        stroke="var(--paper)", stroke_width=1, tabindex=0, role="img",
                        aria_label=text)
                )  # fmt: skip
            at += size
        parts.append(tag("text", f"{number(net)} net", x=at + 7, y=y + 17, class_="tick"))
    return tag("svg", *parts, class_="bars", viewBox=f"0 0 {width} {height}", role="group",
               aria_label=unit)  # fmt: skip
