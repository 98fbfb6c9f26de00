"""Finished results that the published tables rest on, and the tables drawn from them.

    python benchmarks/evidence.py add results/EXPERIMENT ...   # in the clone that ran them
    python benchmarks/evidence.py add --predicted results/EXPERIMENT ...  # by kept weights
    python benchmarks/evidence.py tables [--check]             # anywhere
    python benchmarks/evidence.py prove results/EXPERIMENT ... # in a clone whose code differs

``add`` keeps each seed's summary.json under ``benchmarks/evidence/EXPERIMENT/seedN.json`` with the
commit, the fingerprint of the training code, a digest of the resolved tasks and the data's id.
With ``--predicted`` only predictions are new: the row's commit and training code stay.
``tables`` draws what ``benchmarks/tables.yaml`` lists and says which cells are missing, which are
stale (code, settings or data are others today), and where rows of one table differ in these.
``prove`` compares results made again by today's code with those kept, number by number. Where none
differs, the two versions of a method's training code count as one (``evidence/equal.json``): a
renamed function makes no row stale, once one cell of each method was trained again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from evidence_markdown import markdown

from clclip.core.digest import digest
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_text
from clclip.evaluation.continual import deviation, mean
from clclip.model.kinds import KINDS
from clclip.report.sections.conditions import Comparison, Outcome, drawn, standalone
from clclip.workflow.fingerprint import fingerprint, stage_fingerprint
from clclip.workflow.plan import plan_run

HERE = Path(__file__).parent
EVIDENCE, TABLES = HERE / "evidence", HERE / "tables.yaml"
METRICS = ("AP50 (area)", "AP[.50:.95]")
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
    if _git("status", "--porcelain", "--", "clclip", "config", "workflow"):
        raise InputError("changes without a commit", "clclip, config or workflow", "a clean clone")
    commit = _git("rev-parse", "--short=10", "HEAD")
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


def prove(folders: Sequence[Path]) -> None:
    """Record for which kept results today's code gives the same numbers again.

    Raises:
        InputError: if nothing is kept of a seed, or if a number differs.
    """
    known = equal_codes()
    commit = _git("rev-parse", "--short=10", "HEAD")
    for now in (entry for folder in folders for entry in collect(folder, commit)):
        found = kept(now.experiment, [now.seed])
        if not found:
            raise InputError("nothing is kept of it", now.path, "a kept seed, made again")
        for key in ("settings", "data", "scores", "forgetting"):
            if getattr(found[0], key) != getattr(now, key):
                raise InputError(f"other {key} than kept", now.path, "the same numbers again")
        other = [key for key, value in _numbers(found[0].summary) if now.summary.get(key) != value]
        if other:  # more keys than then are no other numbers
            what = f"other {', '.join(other)} than kept"
            raise InputError(what, now.path, "the same numbers again")
        for key in ("training", "shared"):
            pair = sorted({getattr(found[0], key), getattr(now, key)})
            if len(pair) == 2 and pair not in [row["codes"] for row in known]:
                cell = f"{now.experiment} seed {now.seed}"
                known.append({"codes": pair, "shown by": cell, "commit": commit})
        print(f"{now.experiment}, seed {now.seed}: the same numbers again")
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    write_text(EVIDENCE / "equal.json", json.dumps(known, indent=1) + "\n")


def _numbers(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return a summary without the versions of the packages that made it."""
    return [(key, value) for key, value in summary.items() if key != "versions"]


def equal_codes() -> list[dict[str, Any]]:
    """Return the pairs of fingerprints that ``prove`` found to give the same numbers."""
    path = EVIDENCE / "equal.json"
    return read_json(path) if path.exists() else []


def same_code(fingerprint: str) -> str:
    """Return one name for all versions of the code that are known to give the same numbers."""
    group, grown = {fingerprint}, True
    while grown:
        more = {c for row in equal_codes() if group & set(row["codes"]) for c in row["codes"]}
        grown, group = not more <= group, group | more
    return min(group)


def _git(*arguments: str) -> str:
    """Return what git prints."""
    command = ["git", "-C", str(HERE), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def kept(experiment: str, seeds: Sequence[int]) -> list[Entry]:
    """Return what is kept of an experiment's ``seeds``."""
    paths = [EVIDENCE / experiment / f"seed{seed}.json" for seed in seeds]
    return [Entry(**read_json(path)) for path in paths if path.exists()]


def why_stale(entry: Entry) -> str | None:
    """Return what today's code would do otherwise, None if nothing."""
    try:
        plan = plan_run({"experiments": [entry.experiment], "seeds": [entry.seed]})
    except InputError as error:
        return f"no such experiment any more ({error.what})"
    tasks = [task.payload for task in plan.experiments[entry.experiment].tasks.values()]
    last = tasks[-1]
    today = {
        "data": last["data"]["id"],
        "settings": digest([settled(payload) for payload in tasks]),
        "training": stage_fingerprint("train", last["kind"], last["method"]),
    }
    other = [
        name
        for name, value in today.items()
        if value != (was := getattr(entry, name))
        and (name != "training" or same_code(value) != same_code(was))
    ]
    return f"other {' and '.join(other)} today" if other else None


@dataclass(frozen=True)
class Table:
    """One table of tables.yaml with what is kept of each cell."""

    title: str
    page: Path
    picture: Path
    seeds: list[int]
    conditions: dict[str, list[str]]
    methods: dict[str, str]
    cells: dict[tuple[str, str], list[Entry]]

    def outcome(self, condition: str, method: str, metric: str) -> Outcome | None:
        """Return the means over seeds of one cell."""
        entries = [e.scores[metric] for e in self.cells[condition, method] if metric in e.scores]
        if not entries:
            return None
        p, c, a = (mean([row[part] for row in entries]) for part in PARTS)
        return Outcome(p, c, a, deviation([row["A"] for row in entries]))

    def notes(self) -> list[str]:
        """Return what is missing, stale, or not of one kind, a line each."""
        lines = []
        for (condition, method), entries in self.cells.items():
            name = f"{condition}_{method}"
            have = {entry.seed for entry in entries}
            if lacking := [str(seed) for seed in self.seeds if seed not in have]:
                lines.append(f"missing: {name}, seed {', '.join(lacking)}")
            for entry in entries:
                if why := why_stale(entry):
                    lines.append(f"stale: {name}, seed {entry.seed}: {why} ({entry.commit})")
        return lines + self._mixed()

    def _mixed(self) -> list[str]:
        """Return where rows do not share training code, or rows of a column their data."""
        lines = []
        entries = [entry for found in self.cells.values() for entry in found]
        codes = {entry.shared: same_code(entry.shared) for entry in entries}
        if len(usual := Counter(codes[entry.shared] for entry in entries)) > 1:
            odd = [e for e in entries if codes[e.shared] != usual.most_common(1)[0][0]]
            names = ", ".join(f"{e.experiment} seed {e.seed} ({e.commit})" for e in odd)
            lines.append(f"mixed: other shared training code than most rows: {names}")
        for condition in self.conditions:
            column = [e for m in self.methods for e in self.cells[condition, m]]
            if len(ids := {entry.data for entry in column}) > 1:
                lines.append(f"mixed: {condition} has data {', '.join(sorted(ids))}")
        return lines

    def comparison(self, metric: str) -> Comparison:
        """Return the table as the picture's content, the best method first."""

        def order(method: str) -> tuple[bool, float]:
            found = [self.outcome(condition, method, metric) for condition in ranked]
            known = [cell.all for cell in found if cell and cell.all is not None]
            return method == "joint", -sum(known) / len(known) if known else 1.0

        # a method that skipped the hard conditions must not lead for it
        whole = [c for c in self.conditions if all(self.cells[c, m] for m in self.methods)]
        ranked = whole or list(self.conditions)[:1]

        methods = sorted(self.methods, key=order)
        return Comparison(
            [tuple(names) for names in self.conditions.values()],
            [(self.methods[method], method == "joint") for method in methods],
            [[self.outcome(c, m, metric) for c in self.conditions] for m in methods],
        )


def read_tables(path: Path = TABLES) -> list[Table]:
    """Read the tables and what is kept of their cells."""
    found = []
    for content in yaml.safe_load(path.read_text(encoding="utf-8")).values():
        seeds = content["seeds"]
        cells = {
            (condition, method): kept(f"{condition}_{method}", seeds)
            for condition in content["conditions"]
            for method in content["methods"]
        }
        page, picture = (HERE.parent / content.pop(key) for key in ("page", "picture"))
        found.append(Table(page=page, picture=picture, cells=cells, **content))
    return found


def write(table: Table) -> None:
    """Fill the table into its page, between ``<!-- evidence: METRIC -->`` and ``<!-- end -->``."""

    def filled(block: re.Match[str]) -> str:
        return f"<!-- evidence: {block[1]} -->\n\n{markdown(table, block[1])}\n\n<!-- end -->"

    if table.page.exists():
        text = table.page.read_text(encoding="utf-8")
        pattern = r"<!-- evidence: (.+?) -->.*?<!-- end -->"
        write_text(table.page, re.sub(pattern, filled, text, flags=re.DOTALL))
        write_text(table.picture, standalone(drawn(table.comparison(METRICS[0]).known())))


def main() -> int:
    """Run the command; 1 if ``--check`` finds something stale or mixed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="keep finished results")
    adding.add_argument("folders", nargs="+", type=Path, metavar="results/EXPERIMENT")
    adding.add_argument(
        "--predicted", action="store_true", help="only predictions are new, by kept weights"
    )
    commands.add_parser("prove", help="show that today's code gives kept numbers").add_argument(
        "folders", nargs="+", type=Path, metavar="results/EXPERIMENT"
    )
    tables = commands.add_parser("tables", help="draw the tables, tell what is missing or stale")
    tables.add_argument("--check", action="store_true", help="write nothing; 1 if stale or mixed")
    options = parser.parse_args()
    if options.command == "add":
        add(options.folders, options.predicted)
        return 0
    if options.command == "prove":
        prove(options.folders)
        return 0
    found = 0
    for table in read_tables():
        print(f"{table.title}\n")
        for metric in METRICS:
            print(f"{metric}\n\n{markdown(table, metric)}\n")
        notes = table.notes()
        print("\n".join(notes) or "whole and of today")
        found += sum(not note.startswith("missing") for note in notes)
        if not options.check:
            write(table)
    return int(options.check and found > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
