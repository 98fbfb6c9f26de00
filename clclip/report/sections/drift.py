"""How far shared modules moved, and how much gates of different classes overlap (detection).

From probe.json of every task (``clclip.detection.stages.probe``): sketches of what the modules of
each shared path answer to the same few test images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.evaluation.continual import mean
from clclip.report.benchmark import Benchmark, Experiment

logger = logging.getLogger(__name__)

MODULES = ("pyramid", "proposals", "region layers", "fully connected", "boxes", "classifier")
PARTS = ("previous", "between", "current")
Sketches = Sequence[Mapping[str, Sequence[Sequence[float]]]]


@dataclass(frozen=True)
class Drift:
    """One experiment.

    Attributes:
        tasks: those from the second on.
        modules: (name, relative change in percent after each of the tasks).
        recall: percent of previous classes' objects that a proposal covers, after each of them.
        overlap: (map, mean squared cosine for each of ``PARTS``) after the last; empty without
            gates.
    """

    experiment: Experiment
    tasks: list[int]
    modules: list[tuple[str, list[float | None]]]
    recall: list[float | None]
    overlap: list[tuple[str, list[float | None]]]


def drift(benchmark: Benchmark) -> list[Drift]:
    """Return the drift of every contestant whose tasks left probes, a mean over its seeds."""
    rows = []
    for experiment in benchmark.contestants if benchmark.detection else []:
        numbers = [task["task"] for task in experiment.summary["tasks"]]
        if len(numbers) < 2:
            continue
        try:
            rows.append(_experiment(experiment, numbers))
        except (InputError, KeyError, TypeError, ValueError) as error:
            logger.info("no drift of %s: %s", experiment.name, error)
    return rows


def _experiment(experiment: Experiment, numbers: list[int]) -> Drift:
    """Read one experiment's probes and average what they say over its seeds."""
    seeds = [_seed(experiment, seed, numbers) for seed in experiment.summary["seeds"]]
    modules = [dict(moved) for moved, _, _ in seeds]
    return Drift(
        experiment,
        numbers[1:],
        [(name, _each([own[name] for own in modules])) for name in modules[0]],
        _each([recall for _, recall, _ in seeds]),
        [(name, _each([own[name] for *_, own in seeds])) for name in seeds[0][2]],
    )


def _seed(
    experiment: Experiment, seed: int, numbers: list[int]
) -> tuple[list[tuple[str, list[float | None]]], list[float | None], dict[str, list]]:
    """Return one seed's (drift of modules, recall, overlap of maps)."""
    folders = [experiment.task_dir(number, seed) for number in numbers]
    probes = [read_json(folder / "probe.json") for folder in folders]
    if any(probe["images"] != probes[0]["images"] for probe in probes):
        raise InputError("different images", folders[0], "one probe set for all tasks")
    recall: list[float | None] = []
    for folder in folders[1:]:
        path = folder / "recall.json"
        recall.append(read_json(path)["P"] if path.exists() else None)
    last = probes[-1]["overlap"] or {}
    overlap = {name: [row[part] for part in PARTS] for name, row in sorted(last.items())}
    return module_drift([probe["sketches"] for probe in probes]), recall, overlap


def _each(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the mean of every column."""
    return [mean(column) for column in zip(*rows, strict=True)]


def module_drift(probes: Sequence[Sketches]) -> list[tuple[str, list[float | None]]]:
    """Return per module its relative change, in percent, after each task from the second on.

    A module of a path is compared with itself after the path's own task, image by image:
    |now - then| / |then|; a row is the mean over images and over the paths that are older than the
    task. A path that never changes has a drift of 0.

    Args:
        probes: per task, per path, module name -> sketches (images, width).
    """
    born: dict[int, Mapping[str, Any]] = {}
    own = probes[0][0]
    order = [name for name in MODULES if name in own] + [n for n in own if n not in MODULES]
    rows: dict[str, list[float | None]] = {name: [] for name in order}
    for sketches in probes:
        old = sorted(born)
        for name, row in rows.items():
            changes = [_change(born[path][name], sketches[path][name]) for path in old]
            if old:
                row.append(100 * float(np.mean(changes)))
        for path, answers in enumerate(sketches):
            born.setdefault(path, answers)
    return list(rows.items())


def _change(then: Any, now: Any) -> float:
    """Return the mean over images of the relative change of a sketch."""
    before, after = (np.array(value, dtype=float) for value in (then, now))
    size = np.linalg.norm(before, axis=1)
    return float((np.linalg.norm(after - before, axis=1) / np.maximum(size, 1e-12)).mean())
