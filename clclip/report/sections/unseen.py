"""The part of the page on words never trained: AP of classes that no task has trained yet."""

from __future__ import annotations

from dataclasses import dataclass

from clclip.report.benchmark import Benchmark, Experiment


@dataclass(frozen=True)
class Row:
    """One experiment after one task; numbers in percent.

    Attributes:
        experiment: whose.
        task: after which task.
        old, new: mAP of earlier and of this task's classes.
        unseen: mean AP of the classes of later tasks, by the frozen CLIP in the model's boxes.
        count: how many classes these are.
    """

    experiment: Experiment
    task: int
    old: float | None
    new: float | None
    unseen: float | None
    count: int


def unseen(benchmark: Benchmark) -> list[Row]:
    """Return a row per contestant and task but the last, of those that were measured."""
    rows = []
    for experiment in benchmark.contestants:
        after = {task["task"]: task for task in experiment.summary["tasks"]}
        for row in experiment.summary.get("unseen", []):
            scores = after[row["task"]]
            counted = len(row["per_class"])
            ends = (scores["P"], scores["C"], row["AP"])
            rows.append(Row(experiment, row["task"], *ends, counted))
    return rows
