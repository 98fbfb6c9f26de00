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
    found: dict[tuple[str, str], list[tuple[float, float | None]]] = {}
    folders = [(name, results / name) for name in experiments] + [("shared", resources)]
    for owner, folder in folders:
        for log in sorted(folder.rglob("*.log")):
            line = last_done(log)
            if line is not None:
                name, seconds, peak = line
                found.setdefault((owner, name), []).append((seconds, peak))
    rows = [
        Stage(
            owner,
            name,
            len(jobs),
            sum(seconds for seconds, _ in jobs),
            max(seconds for seconds, _ in jobs),
            max((peak for _, peak in jobs if peak is not None), default=None),
        )
        for (owner, name), jobs in found.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


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
