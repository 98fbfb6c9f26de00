"""How long the stages took, from the last line of their logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DONE = re.compile(r"done stage=(\S+) seconds=([\d.]+)(?: peak_mib=([\d.]+))?")
TAIL = 4096


@dataclass(frozen=True)
class Stage:
    """All jobs of one stage of one owner (an experiment, or what experiments share)."""

    owner: str
    name: str
    jobs: int
    seconds: float
    longest: float
    peak_mib: float | None


def stages(results: Path, resources: Path, experiments: Iterable[str]) -> list[Stage]:
    """Return the stages of the experiments and of the shared resources, longest first."""
    jobs_of: dict[tuple[str, str], list[tuple[float, float | None]]] = {}
    folders = [(name, results / name) for name in experiments] + [("shared", resources)]
    for owner, folder in folders:
        for log in sorted(folder.rglob("*.log")):
            line = last_done(log)
            if line is not None:
                name, seconds, peak = line
                jobs_of.setdefault((owner, name), []).append((seconds, peak))
    rows = [
        Stage(
            owner,
            name,
            len(jobs),
            sum(seconds for seconds, _ in jobs),
            max(seconds for seconds, _ in jobs),
            max((peak for _, peak in jobs if peak is not None), default=None),
        )
        for (owner, name), jobs in jobs_of.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


@dataclass(frozen=True)
class Rerun:
    """What a change of an experiment would cost, in seconds of work over all seeds.

    Attributes:
        name: of the experiment.
        from_task: entry t - 1: if task t changes, and with it all later ones.
        scores: if only the scoring changes.
    """

    name: str
    from_task: list[float]
    scores: float


def reruns(results: Path, experiments: Iterable[str]) -> list[Rerun]:
    """Return the cost of a rerun of every experiment whose tasks left logs."""
    rows = []
    for name in experiments:
        tasks: dict[int, float] = {}
        scores = 0.0
        for log in (results / name).glob("seed*/task*/logs/*.log"):
            number, line = log.parent.parent.name.removeprefix("task"), last_done(log)
            if line is None or not number.isdigit():
                continue
            stage, seconds, _ = line
            tasks[int(number)] = tasks.get(int(number), 0.0) + seconds
            scores += seconds if stage == "score" else 0.0
        if tasks:
            numbers = range(1, max(tasks) + 1)
            left = [sum(s for task, s in tasks.items() if task >= number) for number in numbers]
            rows.append(Rerun(name, left, scores))
    return rows


def last_done(log: Path) -> tuple[str, float, float | None] | None:
    """Return (stage, seconds, peak MiB) of a log's last such line, None without one."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - TAIL))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return None
    matches = DONE.findall(text)
    if not matches:
        return None
    name, seconds, peak = matches[-1]
    try:
        return name, float(seconds), float(peak) if peak else None
    except ValueError:
        return None


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
