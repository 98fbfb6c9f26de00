"""Findings of checking the data, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.report.benchmark import Experiment

LISTED = 200  # lines per data set; the whole list stays in its index.json


@dataclass(frozen=True)
class AboutData:
    """What is odd about one data set.

    Attributes:
        data: its id.
        warnings: what ``clclip prepare`` warned of, a line each.
        entries: the first things left out on request (``on_bad_image``, ``on_bad_box``): {"split",
            "file_name", "id", "reason"}.
        more: number of things left out that are not among them.
    """

    data: str
    warnings: list[str]
    entries: list[dict[str, Any]]
    more: int


def about_data(experiments: Sequence[Experiment], resources: Path) -> list[AboutData]:
    """Return what is odd about the data sets of the experiments, in order of their ids."""
    rows = []
    for name in sorted({name for experiment in experiments if (name := _data_id(experiment))}):
        path = resources / "data" / str(name) / "index.json"
        try:
            index = read_json(path)
            entries = [dict(entry) for entry in index.get("skipped", [])]
            warnings = [" ".join(str(line).split()) for line in index.get("warnings", [])]
        except (InputError, AttributeError, TypeError, ValueError):
            continue  # the report is about results; an index that is gone has nothing to tell
        if entries or warnings:
            more = max(0, len(entries) - LISTED)
            rows.append(AboutData(str(name), warnings, entries[:LISTED], more))
    return rows


def as_text(rows: Sequence[AboutData]) -> str:
    """Return the warnings for a terminal, "" if there are none."""
    lines = [f"about the data {about.data}: {line}" for about in rows for line in about.warnings]
    return "".join(f"{line}\n" for line in lines)


def _data_id(experiment: Experiment) -> str | None:
    """Return the id of an experiment's data set, from its last task."""
    path = experiment.task_dir(experiment.summary["tasks"][-1]["task"]) / "task.json"
    try:
        return read_json(path).get("data", {}).get("id")
    except (InputError, AttributeError):
        return None
