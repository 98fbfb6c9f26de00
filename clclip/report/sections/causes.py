"""The part of the page that says why classes were forgotten."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from clclip.core.errors import InputError
from clclip.evaluation.causes import CAUSES
from clclip.evaluation.diagnosis import diagnose
from clclip.report.benchmark import Benchmark, Experiment
from clclip.report.charts import bars

logger = logging.getLogger(__name__)

# Okabe and Ito's palette once more, one of Paul Tol's; two greys for what lies outside classes.
LOOKS = {
    "not proposed": ("#3d434c", "no proposal overlaps the object any more"),
    "resting path": ("#882255", "the path of the class proposed nothing on the image"),
    "no detection near": ("#CC79A7", "the object is missed, and no box of its class lies near it"),
    "score": ("#0072B2", "relegated: the object's score fell, or it fell out of the list"),
    "box": ("#56B4E9", "the box overlaps its object too little"),
    "new class": ("#D55E00", "confused with a class that came later"),
    "old class": ("#E69F00", "confused with a class that came earlier or at the same time"),
    "duplicate": ("#009E73", "a second box on a found object"),
    "background": ("#8A8F98", "a box on nothing"),
    "gained": ("#F0E442", "detected only after the later task (a gain)"),
}


Row = dict[str, Any]
"""One class: "before", "after", "lost" and "causes" {cause: points}, means over seeds."""


@dataclass(frozen=True)
class Step:
    """One later task: bars of all methods, and per method its causes and its classes."""

    task: int
    bars: Markup
    tables: list[tuple[Experiment, list[str], list[tuple[str, Row]]]]


@dataclass(frozen=True)
class Why:
    """The diagnosis after every later task, and the causes that occur."""

    seeds: int
    legend: list[tuple[str, str, str]]
    steps: list[Step]


def why(benchmark: Benchmark) -> Why | None:
    """Return the diagnosis of every task from the second on; None if there is nothing to show."""
    if not benchmark.detection:
        return None
    by_task: dict[int, list[tuple[Experiment, dict[str, Row]]]] = {}
    for experiment in benchmark.contestants:
        for row in experiment.summary["tasks"][1:]:
            classes = over_seeds(experiment, row["task"])
            if classes:
                by_task.setdefault(row["task"], []).append((experiment, classes))
    if not by_task:
        return None
    shares = {task: [_means(classes) for _, classes in own] for task, own in by_task.items()}
    drawn = [{c: max(0.0, v) for c, v in row.items()} for own in shares.values() for row in own]
    legend = [
        (cause, f"var(--cause{k})", LOOKS[cause][1])
        for k, cause in enumerate(CAUSES)
        if any(row[cause] > 0.05 for row in drawn)
    ]
    longest = max(sum(row.values()) for row in drawn)
    colours = {cause: colour for cause, colour, _ in legend}
    steps = []
    for task, own in sorted(by_task.items()):
        rows = [
            (experiment.label, {c: max(0.0, v) for c, v in means.items()}, sum(means.values()))
            for (experiment, _), means in zip(own, shares[task], strict=True)
        ]
        unit = f"points of AP lost by task {task}, mean over earlier classes"
        tables = [(experiment, *_sorted(classes)) for experiment, classes in own]
        steps.append(Step(task, bars(rows, colours, unit, longest), tables))
    seeds = max(len(experiment.summary["seeds"]) for experiment, _ in by_task[max(by_task)])
    return Why(seeds, legend, steps)


def over_seeds(experiment: Experiment, task: int) -> dict[str, Row]:
    """Return every earlier class's row, a mean over the seeds whose predictions are there."""
    seeds = [_diagnosis(experiment, task, seed) for seed in experiment.summary["seeds"]]
    seeds = [classes for classes in seeds if classes]
    rows: dict[str, Row] = {}
    for name in dict.fromkeys(name for classes in seeds for name in classes):
        own = [classes[name] for classes in seeds if name in classes]
        causes = [c for c in CAUSES if any(c in row["causes"] for row in own)]
        rows[name] = {key: _mean([row[key] for row in own]) for key in ("before", "after", "lost")}
        rows[name]["causes"] = {
            c: _mean([row["causes"].get(c, 0.0) for row in own]) for c in causes
        }
    return rows


def _mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def _means(classes: dict[str, Row]) -> dict[str, float]:
    """Return every cause's mean over the classes, gains as negative numbers."""
    return {c: _mean([row["causes"].get(c, 0.0) for row in classes.values()]) for c in CAUSES}


def _sorted(classes: dict[str, Row]) -> tuple[list[str], list[tuple[str, Row]]]:
    """Return the causes that occur, and the classes by falling loss."""
    own = [cause for cause in CAUSES if any(cause in row["causes"] for row in classes.values())]
    return own, sorted(classes.items(), key=lambda item: -item[1]["lost"])


def _diagnosis(experiment: Experiment, task: int, seed: int) -> dict[str, Row]:
    """Compute the classes of a task's diagnosis from its predictions."""
    try:
        return diagnose(experiment.task_dir(task, seed) / "task.json")["classes"]
    except InputError as error:
        logger.warning("no diagnosis of %s: %s", experiment.name, error)
        return {}
