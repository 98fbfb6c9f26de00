"""What the report is about: experiments, gathered into benchmarks whose numbers may be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clclip.core.artifacts import Part, Summary, read_summary
from clclip.core.errors import InputError
from clclip.core.files import read_object
from clclip.core.kind import Method
from clclip.evaluation.comparable import comparison_key, title_suffix
from clclip.model.kinds import KINDS
from clclip.report.plotting import load_matplotlib

# Okabe and Ito's palette (colour-blind safe), without its yellow: too pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
JOINT_COLOUR = "#8A8F98"
SHOWN_SEEDS = 3


@dataclass
class Experiment:
    """One experiment's summary, with where it lies and how it is drawn."""

    summary: Summary
    folder: Path
    label: str = ""
    colour: str = ""
    css: str = ""

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.summary["experiment"]

    @property
    def joint(self) -> bool:
        """Whether it trains on all classes at once: an upper bound, not a contestant."""
        return self.method is not None and self.method.role == "upper bound"

    @cached_property
    def method(self) -> Method | None:
        """The facts of its method; None for one that this version does not know.

        A summary names the method that an alias is a variant of. Which of the two was run is what
        the switches of its first task say, whatever the experiment is called: where a part of the
        alias was removed, most of what sets it apart is still there.
        """
        methods = KINDS[self.summary["kind"]].methods
        named = self.summary["method"]
        variants = [method for method in methods.values() if method.alias == named]
        file = self.task_dir(self.summary["tasks"][0]["task"]) / "task.json"
        if variants and file.is_file():
            switches = read_object(file, ("switches",), "resolve")["switches"]
            plain = methods[named].given({})
            for variant in variants:
                own = [switches.get(key) == value for key, value in variant.defining.items()]
                usual = [switches.get(key) == getattr(plain, key) for key in variant.defining]
                if sum(own) > sum(usual):
                    return variant
        return methods.get(named)

    def seed_dir(self) -> Path:
        """Folder of the first seed, whose predictions are shown."""
        return self.folder / f"seed{self.summary['seeds'][0]}"

    def task_dir(self, task: int, seed: int | None = None) -> Path:
        """Folder of a task (1-based) of a seed; the first by default."""
        return (self.seed_dir() if seed is None else self.folder / f"seed{seed}") / f"task{task}"

    @property
    def last_task(self) -> int:
        """Number of the last task."""
        return self.summary["tasks"][-1]["task"]

    def per_seed(self, part: str = "A") -> dict[int, float | None]:
        """Final P, C or A of each seed; empty if the summary does not hold them."""
        return {row["seed"]: row["final"][part] for row in self.summary.get("per_seed", [])}


@dataclass
class Benchmark:
    """Experiments on the same data, protocol, images and metric, the best first, joint last."""

    experiments: list[Experiment]
    baseline: Experiment | None = None
    groups: list[list[str]] = field(default_factory=list)

    @property
    def first(self) -> Summary:
        """Summary that names what all have in common."""
        return self.experiments[0].summary

    @property
    def contestants(self) -> list[Experiment]:
        """All but the upper bound."""
        return [experiment for experiment in self.experiments if not experiment.joint]

    @property
    def upper(self) -> Experiment | None:
        """The upper bound, if it was run."""
        return next((experiment for experiment in self.experiments if experiment.joint), None)

    @property
    def title(self) -> str:
        """Data and protocol in words, with an image rule or a metric that is not usual."""
        dataset = self.first.get("dataset") or "data"
        return f"{dataset}, {self.sizes} classes{title_suffix(self.first)}"

    @property
    def sizes(self) -> str:
        """Class numbers of the tasks: 10+10, or 10+5x2 (five tasks of two) where they repeat."""
        runs: list[list[int]] = []
        for group in self.groups:
            if runs and runs[-1][0] == len(group):
                runs[-1][1] += 1
            else:
                runs.append([len(group), 1])
        return "+".join(f"{n}x{size}" if n > 2 else "+".join([str(size)] * n) for size, n in runs)

    @property
    def detection(self) -> bool:
        """Whether the scores are AP of boxes (else accuracy)."""
        return KINDS[self.first["kind"]].boxes

    @property
    def shown_seeds(self) -> list[int | None]:
        """Seeds whose predictions are shown: the first three that all have, else each one's first.

        None stands for the first seed of an experiment.
        """
        first, *others = (e.summary["seeds"] for e in self.experiments)
        common = [seed for seed in first if all(seed in seeds for seeds in others)]
        return [*common[:SHOWN_SEEDS]] or [None]

    def part_name(self, part: str) -> str:
        """Name of P, C or A as the field writes it."""
        return KINDS[self.first["kind"]].score.format(part)


def load(paths: Sequence[Path], palette: str | None = None) -> list[Benchmark]:
    """Read summaries and gather those that share data, protocol and what ``COMPARED`` lists.

    Args:
        paths: results/EXPERIMENT/summary.json files.
        palette: a qualitative colour map of matplotlib instead of Okabe and Ito's.

    Raises:
        InputError: if there is no summary, or one lacks a key.
    """
    if not paths:
        raise InputError("no summary", "report", "at least one results/EXPERIMENT/summary.json")
    groups: dict[str, list[Experiment]] = {}
    for path in paths:
        summary = read_summary(path, ("std",))
        same = [summary.get("dataset"), summary.get("protocol"), *comparison_key(summary)]
        groups.setdefault(json.dumps(same), []).append(Experiment(summary, path.parent))
    colours = palette_colours(palette)
    benchmarks = [_benchmark(experiments, colours) for experiments in groups.values()]
    return sorted(benchmarks, key=lambda benchmark: not benchmark.detection)


def _benchmark(experiments: list[Experiment], colours: Sequence[str]) -> Benchmark:
    """Order, name and colour the experiments of one benchmark."""
    labels = [e.method.label if e.method else e.summary["method"] for e in experiments]
    for experiment, label in zip(experiments, labels, strict=True):
        shared = labels.count(label) > 1
        experiment.label = f"{label} ({experiment.name})" if shared else label
    free = list(range(len(colours)))
    wishes = {e.name: e.method.colour if e.method else None for e in experiments}
    for experiment in sorted(experiments, key=lambda e: wishes[e.name] is None):
        wish = wishes[experiment.name]
        if experiment.joint:
            experiment.colour, experiment.css = JOINT_COLOUR, "var(--joint)"
            continue
        place = wish if wish in free else (free[0] if free else 0)
        free = [other for other in free if other != place] or list(range(len(colours)))
        experiment.colour, experiment.css = colours[place], f"var(--m{place})"

    def order(experiment: Experiment) -> tuple[bool, float]:
        score = experiment.summary["final"]["A"]
        return experiment.joint, -score if score is not None else 1.0

    experiments = sorted(experiments, key=order)
    by_method = {e.summary["method"]: e for e in reversed(experiments)}
    known = KINDS[experiments[0].summary["kind"]].methods
    baselines = [name for name, method in known.items() if method.role == "baseline"]
    baseline = next((by_method[name] for name in baselines if name in by_method), None)
    return Benchmark(experiments, baseline, experiments[0].summary["groups"])


def palette_colours(palette: str | None) -> Sequence[str]:
    """Return hex colours of methods."""
    if palette in (None, "okabe_ito"):
        return PALETTE
    matplotlib = load_matplotlib()
    from matplotlib.colors import to_hex

    if palette not in matplotlib.colormaps:
        raise InputError(
            f"palette {palette!r}", "report.palette", "okabe_ito or a matplotlib colour map"
        )
    colours = getattr(matplotlib.colormaps[palette], "colors", None)
    if colours is None:
        return [to_hex(matplotlib.colormaps[palette](step / 5)) for step in range(6)]
    return [to_hex(colour) for colour in colours]


def curve(benchmark: Benchmark, experiment: Experiment, part: Part) -> list[tuple[int, float]]:
    """Return (task, value) of P, C or A after each task.

    In a stream of two tasks the earlier classes have a history: P starts with their score when they
    were learned.
    """
    tasks = experiment.summary["tasks"]
    points = [(task["task"], value) for task in tasks if (value := task[part]) is not None]
    learned = tasks[0]["C"]
    if part == "P" and len(benchmark.groups) == 2 == len(tasks) and points and learned is not None:
        return [(1, learned), *points]
    return points


def best_before_last(experiment: Experiment) -> dict[str, float]:
    """Return each earlier class's best score before the last task, where it can be measured."""
    tasks, groups = experiment.summary["tasks"], experiment.summary["groups"]
    if len(tasks) < 2:
        return {}
    best = {}
    for name in (name for group in groups[:-1] for name in group):
        past = [task["per_class"].get(name) for task in tasks[:-1]]
        known = [score for score in past if score is not None]
        if known and tasks[-1]["per_class"].get(name) is not None:
            best[name] = max(known)
    return best


def final_and_best(experiment: Experiment) -> tuple[float, float] | None:
    """Return (final, best so far): the mean score of the earlier classes, None without any."""
    best = best_before_last(experiment)
    if not best:
        return None
    last = experiment.summary["tasks"][-1]["per_class"]
    left = sum(last[name] or 0.0 for name in best)  # each has a score
    return left / len(best), sum(best.values()) / len(best)


def retention(experiment: Experiment) -> float | None:
    """Return the part, in percent, of the earlier classes' best score that is left at the end."""
    scores = final_and_best(experiment)
    return 100 * scores[0] / scores[1] if scores and scores[1] > 0 else None
