"""Reading results from Python: ``clclip.load_run("results")``.

Everything is plain: dataclasses, dicts and lists of dicts, which pandas or a csv writer take as
they are. Numbers are in percent, None where there is nothing to measure. Nothing needs torch, and
predictions are read only when they are asked for::

    run = clclip.load_run("results")
    run.table()                                           # a row per experiment, the best first
    ours = run["shapes_10_10_clclip"]
    ours.seeds[0].task(2).per_class                       # class -> AP after task 2
    run.compare("shapes_10_10_clclip", "shapes_10_10_fvit").parts["A"]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError, nearest
from clclip.evaluation.aggregate import SUMMARY_KEYS
from clclip.evaluation.compare import Comparison, compare
from clclip.results.task import Task, open_task


@dataclass(frozen=True)
class Seed:
    """One seed of an experiment.

    Attributes:
        number: the seed.
        folder: results/EXPERIMENT/seedN.
        tasks: the finished tasks in order.
        final: "P", "C", "A" after the last task.
        forgetting: best score so far minus the final one; None for a stream of one task.
        average: mean of A over the tasks.
        matrix: matrix[i][j] = score after task i + 1 on the classes of task j + 1.
    """

    number: int
    folder: Path
    tasks: list[Task] = field(repr=False)
    final: dict[str, float | None]
    forgetting: float | None
    average: float | None
    matrix: list[list[float | None]] = field(repr=False)

    def task(self, number: int) -> Task:
        """Return a task by its number, from 1.

        Raises:
            InputError: if there is no such task.
        """
        if number not in range(1, len(self.tasks) + 1):
            raise InputError(f"task {number}", self.folder, f"1 to {len(self.tasks)}")
        return self.tasks[number - 1]


@dataclass(frozen=True)
class Experiment:
    """One experiment; its own numbers are means over its seeds.

    Attributes:
        name: of the experiment.
        folder: results/EXPERIMENT.
        kind: "detection" or "classification".
        method: e.g. "clclip".
        dataset: name of the data.
        protocol: name of the protocol, None for groups of one's own.
        metric: what the numbers are, e.g. "AP50 (area)".
        groups: the classes of each task.
        seeds: seed -> what that seed did, in order.
        final: "P", "C", "A" after the last task; ``final["A"]`` is *Last* of classification.
        std: their standard deviations over seeds, None for one seed.
        forgetting: mean forgetting; lower is better.
        average: mean of A over tasks, *Avg* of classification.
        per_class: class -> score after the last task.
        matrix: matrix[i][j] = score after task i + 1 on the classes of task j + 1.
        curves: "P", "C", "A" -> score after each task.
        versions: of Python and the packages that decide numbers.
    """

    name: str
    folder: Path
    kind: str
    method: str
    dataset: str | None
    protocol: str | None
    metric: str
    groups: list[list[str]] = field(repr=False)
    seeds: dict[int, Seed] = field(repr=False)
    final: dict[str, float | None]
    std: dict[str, float | None]
    forgetting: float | None
    average: float | None
    per_class: dict[str, float | None] = field(repr=False)
    matrix: list[list[float | None]] = field(repr=False)
    curves: dict[str, list[float | None]] = field(repr=False)
    versions: dict[str, str | None] = field(repr=False)

    @property
    def unscored(self) -> list[str]:
        """Classes without test instances: no mean counts them."""
        return [name for name, score in self.per_class.items() if score is None]

    def table(self) -> list[dict[str, Any]]:
        """Return one row per seed, task and seen class: seed, task, class, score, objects."""
        return [
            {
                "experiment": self.name,
                "seed": seed.number,
                "task": task.number,
                "class": name,
                "score": score,
                "objects": task.objects[name],
            }
            for seed in self.seeds.values()
            for task in seed.tasks
            for name, score in task.per_class.items()
        ]


@dataclass(frozen=True)
class Run:
    """What a workflow wrote: experiments by name, in the order of their names.

    ``run["shapes_10_10_clclip"]``, ``name in run``, ``len(run)`` and ``for one in run`` work.
    """

    folder: Path
    experiments: dict[str, Experiment]

    def __getitem__(self, name: str) -> Experiment:
        if name not in self.experiments:
            problem = f"no experiment {name!r}{nearest(name, self.experiments)}"
            raise InputError(problem, self.folder, f"one of {', '.join(self.experiments)}")
        return self.experiments[name]

    def __contains__(self, name: object) -> bool:
        return name in self.experiments

    def __iter__(self) -> Iterator[Experiment]:
        return iter(self.experiments.values())

    def __len__(self) -> int:
        return len(self.experiments)

    def table(self) -> list[dict[str, Any]]:
        """Return one row per experiment, the highest A first.

        Rows hold experiment, kind, method, dataset, metric, tasks, seeds (how many), P, C, A,
        std_P, std_C, std_A, forgetting and average.
        """
        rows = [
            {
                "experiment": one.name,
                "kind": one.kind,
                "method": one.method,
                "dataset": one.dataset,
                "metric": one.metric,
                "tasks": len(one.curves["A"]),
                "seeds": len(one.seeds),
                **one.final,
                **{f"std_{part}": value for part, value in one.std.items()},
                "forgetting": one.forgetting,
                "average": one.average,
            }
            for one in self
        ]
        return sorted(rows, key=lambda row: -(row["A"] if row["A"] is not None else -1.0))

    def compare(self, a: str, b: str, samples: int = 1000, random_seed: int = 0) -> Comparison:
        """Compare two experiments on the same test images, seeds paired (``clclip compare``).

        Args:
            a: name of the one.
            b: name of the other; differences are a minus b.
            samples: halves of the test images that AP is scored on.
            random_seed: of the halves.

        Returns:
            a comparison whose ``parts["A"]`` holds ``difference``, ``low`` and ``high``.

        Raises:
            InputError: if the two were not scored on the same images, classes and seeds.
        """
        if samples < 2:
            raise InputError(f"got {samples}", "samples", "a number from 2")
        return compare(self[a].folder, self[b].folder, samples, random_seed)


def load_run(folder: str | PathLike[str] = "results", unfinished: str = "error") -> Run:
    """Read the results of a workflow.

    Args:
        folder: ``results`` of the folder it ran in, or one experiment in it.
        unfinished: what to do about experiments without a summary: "error" or "skip".

    Raises:
        InputError: if the folder holds no results, one of them is broken, or not all are finished.
    """
    place = Path(folder)
    if unfinished not in ("error", "skip"):
        raise InputError(f"got {unfinished!r}", "unfinished", "'error' or 'skip'")
    if not place.is_dir():
        raise InputError("no such folder", place, "the folder `results` of a workflow")
    if any(place.glob("task*/task.json")):
        raise InputError("one seed", place, f"its experiment's folder, {place.absolute().parent}")
    single = (place / "summary.json").is_file() or any(place.glob("seed*/task*/task.json"))
    begun = {path.parents[2] for path in place.glob("*/seed*/task*/task.json")}
    begun |= {path.parent for path in place.glob("*/summary.json")}
    folders = [place] if single else sorted(begun)
    if not folders:
        raise InputError("no results", place, "the folder `results` of a workflow that has run")
    waiting = [path for path in folders if not (path / "summary.json").is_file()]
    done = [path for path in folders if path not in waiting]
    if waiting and (unfinished == "error" or not done):
        others = ", or unfinished='skip'" if done else ""
        raise InputError(
            f"experiment {waiting[0].name!r} is not finished",
            waiting[0] / "summary.json",
            f"a workflow that has ended{others}",
        )
    experiments = [_experiment(path) for path in done]
    return Run(place, {one.name: one for one in experiments})


def _experiment(folder: Path) -> Experiment:
    """Read one finished experiment."""
    path = folder / "summary.json"
    summary = read_stage_file(path, "summary", (*SUMMARY_KEYS, "std"))
    try:
        tasks = summary["tasks"]
        return Experiment(
            name=summary["experiment"],
            folder=folder,
            **{key: summary[key] for key in ("kind", "method", "dataset", "protocol", "metric")},
            groups=summary["groups"],
            seeds={number: _seed(folder / f"seed{number}") for number in summary["seeds"]},
            **{key: summary[key] for key in ("final", "std", "forgetting", "average")},
            per_class=tasks[-1]["per_class"],
            matrix=summary["matrix"],
            curves={part: [task[part] for task in tasks] for part in "PCA"},
            versions=summary["versions"],
        )
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"not a summary ({error})", path, "a file of `clclip aggregate`") from None


def _seed(folder: Path) -> Seed:
    """Read one seed."""
    summary = read_stage_file(folder / "summary.json", "summary", tuple(SUMMARY_KEYS))
    tasks = [open_task(folder / f"task{entry['task']}") for entry in summary["tasks"]]
    scores = {key: summary[key] for key in ("final", "forgetting", "average", "matrix")}
    return Seed(summary["seeds"][0], folder, tasks, **scores)
