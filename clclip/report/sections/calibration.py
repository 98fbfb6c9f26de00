"""The part of the page on calibration: can scores of old and new classes be trusted alike?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from clclip.core.errors import InputError
from clclip.evaluation.calibrated.part import FILE, read_part
from clclip.evaluation.calibration import Reliability, calibration
from clclip.report.benchmark import Benchmark, Experiment
from clclip.report.svg import marker, path, tag

logger = logging.getLogger(__name__)

SIZE, LEFT, AIR, BOTTOM = 250, 40, 12, 42
FEW = 10  # a bin of fewer detections says little, and is drawn faint
LOOKS = {"previous": ("var(--m0)", None, 0), "current": ("var(--m1)", "6 4", 1)}
"""Group -> colour, dash, marker."""


@dataclass(frozen=True)
class Trust:
    """One experiment's chart, and its two groups of classes."""

    experiment: Experiment
    drawn: Markup
    groups: dict[str, Reliability | None]
    mapped: bool = False


@dataclass(frozen=True)
class Threshold:
    """From which score on a class is shown, and on how many held-out objects that rests."""

    experiment: Experiment
    name: str
    threshold: float
    objects: int
    own: bool


def thresholds(benchmark: Benchmark) -> list[Threshold]:
    """Return the thresholds of every class that was calibrated, of the first seed."""
    rows = []
    for experiment in benchmark.experiments:
        seed = experiment.summary["seeds"][0]
        for task in experiment.summary["tasks"]:
            try:
                part = read_part(experiment.task_dir(task["task"], seed))
            except InputError as error:
                logger.warning("no thresholds of %s: %s", experiment.name, error)
                continue
            for name, entry in (part["classes"] if part else {}).items():
                values = (entry["threshold"], entry.get("objects", 0), bool(entry.get("own", True)))
                rows.append(Threshold(experiment, name, *values))
    return rows


def trust(benchmark: Benchmark) -> list[Trust]:
    """Return the calibration after the last task of every contestant, its seeds pooled.

    A contestant whose tasks are calibrated stands there twice, as it was and as mapped.
    """
    rows = []
    for experiment in benchmark.contestants if len(benchmark.groups) > 1 else []:
        last = experiment.last_task
        folders = [experiment.task_dir(last, seed) for seed in experiment.summary["seeds"]]
        held = all((folder / FILE).is_file() for folder in folders)
        for mapped in (False, True) if held else (False,):
            try:
                files = (folder / "task.json" for folder in folders)
                groups = calibration(*files, mapped=mapped)
            except InputError as error:
                logger.warning("no calibration of %s: %s", experiment.name, error)
                continue
            if any(groups.values()):
                label = experiment.label + ", calibrated" * mapped
                rows.append(Trust(experiment, _chart(label, groups), groups, mapped))
    return rows


def key(group: str) -> Markup:
    """Return the line and marker of a group of classes, to stand before its name."""
    colour, dash, shape = LOOKS[group]
    line = tag("path", d="M1 8H29", stroke=colour, stroke_width=2.2, stroke_dasharray=dash)
    return tag("svg", line, marker(shape, 15, 8, colour), class_="mark", width=30, height=16,
               viewBox="0 0 30 16", aria_hidden="true", focusable="false")  # fmt: skip


def _chart(label: str, groups: Mapping[str, Reliability | None]) -> Markup:
    """Return share right over score, one line per group, with the line of perfect calibration."""

    def x(score: float) -> float:
        return LEFT + (SIZE - LEFT - AIR) * score

    def y(share: float) -> float:
        return AIR + (SIZE - AIR - BOTTOM) * (1 - share)

    drawn = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        drawn.append(tag("path", d=f"M{x(0)} {y(tick):.1f}H{x(1)}", class_="grid"))
        drawn.append(tag("text", f"{100 * tick:.0f}", x=LEFT - 7, y=y(tick) + 4, class_="tick",
                         text_anchor="end"))  # fmt: skip
        drawn.append(tag("text", f"{tick:g}", x=x(tick), y=SIZE - BOTTOM + 18, class_="tick",
                         text_anchor="middle"))  # fmt: skip
    drawn.append(tag("text", "score", x=x(0.5), y=SIZE - 6, class_="label", text_anchor="middle"))
    drawn.append(tag("path", d=path([(x(0), y(0)), (x(1), y(1))]), class_="honest"))
    for group, reliability in groups.items():
        if reliability is None:
            continue
        colour, dash, shape = LOOKS[group]
        places = [(x(b.score), y(b.right)) for b in reliability.bins]
        drawn.append(tag("path", d=path(places), fill="none", stroke=colour, stroke_width=2,
                         stroke_dasharray=dash))  # fmt: skip
        for b, (at, height) in zip(reliability.bins, places, strict=True):
            text = f"{label}, {group} classes: score {b.score:.2f}, right {100 * b.right:.0f} %"
            text += f" of {b.count}"
            drawn.append(tag("g", tag("title", text), marker(shape, at, height, colour),
                             class_="point", opacity=0.4 if b.count < FEW else None, tabindex=0,
                             role="img", aria_label=text))  # fmt: skip
    return tag("svg", *drawn, class_="chart reliability", viewBox=f"0 0 {SIZE} {SIZE}",
               role="group", aria_label=f"Calibration of {label}")  # fmt: skip
