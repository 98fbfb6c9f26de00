"""One seed of one experiment as kept evidence: what is kept of it, read, and written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clclip.core.digest import digest
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_text
from clclip.model.kinds import KINDS
from clclip.workflow.fingerprint import fingerprint, stage_fingerprint

HERE = Path(__file__).parent
EVIDENCE = HERE / "evidence"
PARTS = ("P", "C", "A")


@dataclass(frozen=True)
class Entry:
    """One seed of one experiment, as ``add`` keeps it."""

    experiment: str
    seed: int
    commit: str
    training: str  # fingerprint of the code that trained it
    shared: str  # of the code that every method of its kind trains with
    settings: str  # digest of its resolved tasks
    data: str
    scores: dict[str, dict[str, float | None]]  # metric -> P, C and A
    forgetting: float | None
    summary: dict[str, Any]
    predicted: str | None = None  # commit that predicted with these weights, if not the same

    @property
    def path(self) -> Path:
        """Where it lies."""
        return EVIDENCE / self.experiment / f"seed{self.seed}.json"


def collect(folder: Path, commit: str) -> list[Entry]:
    """Read the finished seeds of results/EXPERIMENT, made by the code that is imported here.

    Raises:
        InputError: if there is no finished seed.
    """
    found = []
    for path in sorted(folder.glob("seed*/summary.json")):
        tasks = sorted(path.parent.glob("task*/task.json"), key=lambda p: int(p.parent.name[4:]))
        payloads = [read_json(task) for task in tasks]
        last, kind = payloads[-1], payloads[-1]["kind"]
        scores = read_json(tasks[-1].parent / "scores.json")
        readings = scores.get("other_metrics") or {scores["metric"]: scores["metrics"]}
        summary = read_json(path)
        entry = Entry(
            folder.name,
            last["seed"],
            commit,
            stage_fingerprint("train", kind, last["method"]),
            shared_code(kind),
            digest([settled(payload) for payload in payloads]),
            last["data"]["id"],
            {name: {part: row[part] for part in PARTS} for name, row in readings.items()},
            summary["forgetting"],
            summary,
        )
        found.append(entry)
    if not found:
        raise InputError("no finished seed", folder, "results/EXPERIMENT with seedN/summary.json")
    return found


def settled(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a task that decides its numbers; where features are kept does not."""
    return {key: value for key, value in payload.items() if key != "features"}


def shared_code(kind: str) -> str:
    """Return the fingerprint of the training stage, without any method's own files."""
    return fingerprint(KINDS[kind].stages["train"])


def add(folders: Sequence[Path], predicted: bool = False) -> None:
    """Keep finished results; the code must be that of a commit.

    Args:
        folders: results/EXPERIMENT.
        predicted: only the predictions are new, by the weights of the rows that are kept.

    Raises:
        InputError: if the package or its experiments have changes that no commit holds.
    """
    if git("status", "--porcelain", "--", "clclip", "config", "workflow"):
        raise InputError("changes without a commit", "clclip, config or workflow", "a clean clone")
    commit = git("rev-parse", "--short=10", "HEAD")
    for entry in (entry for folder in folders for entry in collect(folder, commit)):
        if predicted:
            entry = _with_kept_weights(entry)
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(entry.path, json.dumps(entry.__dict__, indent=1) + "\n")
        print(f"kept {entry.path.relative_to(HERE.parent)}")


def _with_kept_weights(now: Entry) -> Entry:
    """Return new predictions of an entry as those of the weights that are kept of it.

    Raises:
        InputError: if nothing is kept of it, or on other data.
    """
    found = kept(now.experiment, [now.seed])
    if not found or found[0].data != now.data:
        raise InputError("no weights are kept of it", now.path, "a kept seed on the same data")
    was = found[0]
    return replace(
        now, commit=was.commit, training=was.training, shared=was.shared, predicted=now.commit
    )


def kept(experiment: str, seeds: Sequence[int]) -> list[Entry]:
    """Return what is kept of an experiment's ``seeds``."""
    paths = [EVIDENCE / experiment / f"seed{seed}.json" for seed in seeds]
    return [Entry(**read_json(path)) for path in paths if path.exists()]


def git(*arguments: str) -> str:
    """Return what git prints."""
    command = ["git", "-C", str(HERE), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
