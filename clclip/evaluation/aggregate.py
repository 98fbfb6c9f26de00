"""From scores of tasks to the summary of a seed, of an experiment, and to one table of all."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from clclip.core.artifacts import PARTS, PerPart, Scores, read_scores, read_stage_file
from clclip.core.errors import InputError
from clclip.core.files import read_json, read_object, write_json, write_text
from clclip.core.task import has_boxes
from clclip.evaluation import continual
from clclip.evaluation.comparable import training_images

PACKAGES = ("clclip", "torch", "torchvision", "open_clip_torch", "numpy", "faster-coco-eval")
COLUMNS = (
    "experiment", "kind", "method", "dataset", "protocol", "metric", "tasks", "seeds",
    "P", "C", "A", "std_P", "std_C", "std_A", "forgetting", "average",
    "image_rule", "fractions", "images", "classes", "scored_classes", "low_A", "high_A",
)  # fmt: skip

UNSEEN = "unseen.json"

TASK_KEYS = ("kind", "method", "seed", "task", "groups")
SUMMARY_KEYS = (
    "experiment kind method dataset protocol seeds groups tasks final forgetting average matrix "
    "metric images empty_classes versions"
).split()


def aggregate_seed(
    task_dirs: Sequence[Path],
    out: Path,
    experiment: str,
    dataset: str | None = None,
    protocol: str | None = None,
) -> None:
    """Summarise the tasks of one seed: summary.json, whose ``tasks`` hold a number a class.

    Args:
        task_dirs: the folders of tasks 1, 2, ... with task.json and scores.json; one folder for
            ``joint``.
        out: the summary.json to write.
        experiment: name of the experiment, which no task knows.
        dataset: name shown for the data; default: the data id of the last task.
        protocol: name of the protocol, None for groups of the user's own.

    Raises:
        InputError: if the folders are not the tasks 1..T of one seed.
    """
    tasks = [read_object(folder / "task.json", TASK_KEYS, "resolve") for folder in task_dirs]
    scores = [read_scores(folder / "scores.json") for folder in task_dirs]
    _check_chain(tasks, task_dirs)
    _check_classes(tasks, scores, task_dirs)
    last = tasks[-1]
    groups = last["groups"]
    after = [
        {name: entry["score"] for name, entry in score["per_class"].items()} for score in scores
    ]
    counts = {name: entry["objects"] for name, entry in scores[-1]["per_class"].items()}
    before = tasks[0]["task"] - 1  # tasks of the model that the stream started from
    matrix = continual.score_matrix(after, groups, None if has_boxes(last) else counts, before)
    forgetting = None
    if len(tasks) > 1:
        by_class = continual.detection_forgetting(after, groups)
        forgetting = by_class if has_boxes(last) else continual.task_forgetting(matrix)
    summary = {
        "experiment": experiment,
        "kind": last["kind"],
        "method": last["method"],
        "dataset": dataset or last.get("data", {}).get("id"),
        "protocol": protocol,
        "seeds": [last["seed"]],
        "groups": groups,
        **({"start": tasks[0]["start"]} if "start" in tasks[0] else {}),
        "tasks": [
            {"task": task["task"], **_three(score["metrics"]), "per_class": by_class}
            for task, score, by_class in zip(tasks, scores, after, strict=True)
        ],
        "final": _three(scores[-1]["metrics"]),
        "forgetting": forgetting,
        "average": continual.mean([score["metrics"]["A"] for score in scores]),
        "matrix": matrix,
        **_interval([scores[-1]]),
        "metric": scores[-1]["metric"],
        "images": scores[-1]["images"],
        **training_images(last.get("data", {})),
        "empty_classes": scores[-1]["empty_classes"],
        **_unseen(task_dirs[0].parent / UNSEEN),
        "versions": versions() | {"clip": last.get("clip", {}).get("id")},
    }
    write_json(out, summary, indent=1)


def _unseen(path: Path) -> dict[str, Any]:
    """Return the AP of classes not yet trained, where ``clclip unseen`` measured it."""
    if not path.is_file():
        return {}
    rows = read_json(path)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"task", "AP", "per_class"} <= row.keys() for row in rows
    ):
        raise InputError("no list of tasks", path, "the file as `clclip unseen` wrote it")
    return {"unseen": rows}


def _mean_unseen(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds of the AP of classes not yet trained; {} where one lacks it."""
    every = [seed.get("unseen") for seed in seeds]
    known = [rows for rows in every if rows]
    if len(known) < len(every) or len({len(rows) for rows in known}) != 1:
        return {}
    return {
        "unseen": [
            {
                "task": rows[0]["task"],
                "AP": continual.mean([row["AP"] for row in rows]),
                "per_class": _mean_classes(rows),
            }
            for rows in zip(*known, strict=True)
        ]
    }


def _interval(scores: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the interval of A over test images, the mean over seeds; {} where none is given."""
    bounds = [entry.get("interval") for entry in scores]
    known = [pair for pair in bounds if pair]
    if not known or len(known) < len(bounds):
        return {}
    return {"interval": [sum(pair[k] for pair in known) / len(known) for k in (0, 1)]}


def _three(values: PerPart) -> PerPart:
    """Return P, C and A only."""
    return {"P": values["P"], "C": values["C"], "A": values["A"]}


def _check_classes(
    tasks: Sequence[Mapping[str, Any]], scores: Sequence[Scores], folders: Sequence[Path]
) -> None:
    """Check that every class of every task has a score."""
    for folder, task, score in zip(folders, tasks, scores, strict=True):
        for name in (name for group in task["groups"] for name in group):
            if name not in score["per_class"]:
                where = folder / "scores.json"
                raise InputError(f"no score of {name!r}", where, "the scores of this very task")


def _check_chain(tasks: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> None:
    """Check that the folders are tasks 1..T of one seed, each extending the one before."""
    if not tasks:
        raise InputError("no task folder", "aggregate", "the folders of tasks 1, 2, ...")
    first = tasks[0]
    start = first["task"] if "start" in first else 1
    for place, (task, folder) in enumerate(zip(tasks, folders, strict=True), start=start):
        if task["task"] != place:
            what = f"task {task['task']}"
            raise InputError(what, folder, f"task {place}: tasks in order from {start}")
        for key in ("kind", "method", "seed"):
            if task[key] != first[key]:
                raise InputError(f"{key} {task[key]!r}", folder, f"{first[key]!r} as in task 1")
        rule, expected = (training_images(t.get("data", {}))["image_rule"] for t in (task, first))
        if rule != expected:
            raise InputError(f"image rule {rule!r}", folder, f"{expected!r} as in task 1")
        if place > start and task["groups"][:-1] != tasks[place - start - 1]["groups"]:
            raise InputError(
                "other class groups", folder, "the groups of the task before and one more"
            )


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that decide numbers."""
    result: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            result[package] = None
    return result


def aggregate_experiment(seed_summaries: Sequence[Path], out: Path) -> None:
    """Average the seeds of one experiment and write its summary.json.

    A score that is null in one seed is averaged over the others. ``per_seed`` keeps each seed's
    final numbers, which paired comparisons need.

    Raises:
        InputError: if the summaries are not different seeds of one experiment.
    """
    seeds = [read_stage_file(path, "summary", tuple(SUMMARY_KEYS)) for path in seed_summaries]
    _check_seeds(seeds, seed_summaries)
    first = seeds[0]
    same = ("experiment", "kind", "method", "dataset", "protocol", "groups", "metric", "images")
    summary = (
        {key: first[key] for key in same}
        | training_images(first)
        | {
            "seeds": [seed["seeds"][0] for seed in seeds],
            "tasks": [
                _mean_task([seed["tasks"][i] for seed in seeds]) for i in range(len(first["tasks"]))
            ],
            "final": _over_seeds(continual.mean, [seed["final"] for seed in seeds]),
            "std": _over_seeds(continual.deviation, [seed["final"] for seed in seeds]),
            "forgetting": continual.mean([seed["forgetting"] for seed in seeds]),
            "average": continual.mean([seed["average"] for seed in seeds]),
            "matrix": [
                [continual.mean([seed["matrix"][i][j] for seed in seeds]) for j in range(len(row))]
                for i, row in enumerate(first["matrix"])
            ],
            **_interval(seeds),
            **_mean_unseen(seeds),
            "empty_classes": sorted({name for seed in seeds for name in seed["empty_classes"]}),
            "per_seed": [
                {
                    "seed": seed["seeds"][0],
                    "forgetting": seed["forgetting"],
                    "average": seed["average"],
                }
                | {"final": seed["final"], "curve": [task["A"] for task in seed["tasks"]]}
                for seed in seeds
            ],
            "versions": first["versions"],
        }
    )
    write_json(out, summary, indent=1)


def _check_seeds(seeds: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> None:
    """Check that the summaries belong together."""
    if not seeds:
        raise InputError("no seed", "aggregate", "at least one summary.json of a seed")
    first, known = seeds[0], set()
    for seed, path in zip(seeds, paths, strict=True):
        for key in ("experiment", "kind", "method", "metric", "images", "image_rule", "fractions"):
            value, expected = seed.get(key), first.get(key)
            if value != expected:
                raise InputError(f"{key} {value!r}", path, f"{expected!r} as in {paths[0]}")
        if len(seed["tasks"]) != len(first["tasks"]):
            raise InputError(f"{len(seed['tasks'])} tasks", path, f"{len(first['tasks'])} tasks")
        if seed["seeds"][0] in known:
            raise InputError(f"seed {seed['seeds'][0]} twice", path, "different seeds")
        known.add(seed["seeds"][0])


def _over_seeds(function: Any, finals: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Apply ``function`` over seeds to each of P, C, A."""
    return {part: function([final[part] for final in finals]) for part in PARTS}


def _mean_task(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds of one task's entry."""
    return {
        "task": rows[0]["task"],
        **_over_seeds(continual.mean, rows),
        "per_class": _mean_classes(rows),
    }


def _mean_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean over seeds of every class's number."""
    names = list(dict.fromkeys(name for row in rows for name in row["per_class"]))
    return {name: continual.mean([row["per_class"].get(name) for row in rows]) for name in names}


def _scored(summary: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of classes, and of those that have test instances and so count in means."""
    names = {name for group in summary["groups"] for name in group}
    empty = names & set(summary.get("empty_classes", []))
    return {"classes": len(names), "scored_classes": len(names) - len(empty)}


def write_summary_csv(summaries: Sequence[Path], out: Path) -> None:
    """Write one row per experiment; an empty cell is a number that does not exist."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for path in summaries:
        summary = read_stage_file(path, "summary", ("std", "average"))
        std = {f"std_{part}": value for part, value in summary["std"].items()}
        row = {key: summary[key] for key in COLUMNS if key in summary} | summary["final"] | std
        row |= {
            "tasks": len(summary["tasks"]),
            "seeds": " ".join(map(str, summary["seeds"])),
            "fractions": " ".join(map(str, summary.get("fractions", []))),
            **_scored(summary),
            **dict(zip(("low_A", "high_A"), summary.get("interval", []), strict=False)),
        }
        writer.writerow({key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()})
    write_text(out, text.getvalue())
