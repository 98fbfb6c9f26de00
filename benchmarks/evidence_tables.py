"""The published tables: methods under conditions, drawn from kept evidence into their pages."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import evidence_rows as rows
import yaml
from evidence_markdown import Difference, differences, markdown
from evidence_rows import PARTS, Entry, kept
from evidence_today import same_code, why_stale

from clclip.core.files import write_text
from clclip.evaluation.continual import deviation, mean
from clclip.report.sections.conditions import Comparison, Outcome, drawn, standalone

TABLES = Path(__file__).parent / "tables.yaml"
METRICS = ("AP50 (area)", "AP[.50:.95]")


@dataclass(frozen=True)
class Close:
    """Methods whose rows one seed cannot part: the first against each of the others, by seed."""

    methods: list[str]
    seeds: list[int]  # beside the table's
    conditions: list[str]


@dataclass(frozen=True)
class Table:
    """One table of tables.yaml with what is kept of each cell."""

    title: str
    page: Path
    picture: Path | None
    seeds: list[int]
    conditions: dict[str, list[str]]
    methods: dict[str, str]
    cells: dict[tuple[str, str], list[Entry]]
    close: Close | None = None

    def wanted(self, condition: str, method: str) -> list[int]:
        """Return the seeds of one cell."""
        return [*self.seeds, *more_seeds(self.close, condition, method)]

    def paired(self, condition: str, other: str, metric: str) -> dict[int, float]:
        """Return how far the first of the close methods is above another, by seed.

        Only seeds that both finished are there.
        """
        assert self.close is not None
        first, second = (
            {e.seed: e.scores[metric]["A"] for e in self.cells[condition, method]}
            for method in (self.close.methods[0], other)
        )
        pairs = {seed: (first[seed], second[seed]) for seed in first if seed in second}
        return {s: a - b for s, (a, b) in pairs.items() if a is not None and b is not None}

    def differences(self) -> list[Difference]:
        """Return the close methods' differences, a row for each condition and other method."""
        if self.close is None:
            return []
        return [
            Difference(
                ", ".join(self.conditions[condition]),
                self.methods[other],
                [self.paired(condition, other, metric) for metric in METRICS],
            )
            for condition in self.close.conditions
            for other in self.close.methods[1:]
        ]

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
            wanted = self.wanted(condition, method)
            if lacking := [str(seed) for seed in wanted if seed not in have]:
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
        close = content.pop("close", None)
        close = close and Close(**close)
        cells = {
            (condition, method): kept(
                f"{condition}_{method}", [*content["seeds"], *more_seeds(close, condition, method)]
            )
            for condition in content["conditions"]
            for method in content["methods"]
        }
        page, picture = (content.pop(key, None) for key in ("page", "picture"))
        page, picture = rows.HERE.parent / page, picture and rows.HERE.parent / picture
        found.append(Table(page=page, picture=picture, cells=cells, close=close, **content))
    return found


def more_seeds(close: Close | None, condition: str, method: str) -> list[int]:
    """Return the seeds that a cell has beside the table's."""
    if close is None or condition not in close.conditions or method not in close.methods:
        return []
    return close.seeds


def write(table: Table) -> None:
    """Fill the table into its page, between ``<!-- evidence: METRIC -->`` and ``<!-- end -->``.

    ``<!-- evidence: differences -->`` takes those of the close methods. Where a page has several
    tables, a block names its own: ``<!-- evidence: METRIC of TITLE -->``.
    """

    def filled(block: re.Match[str]) -> str:
        what, _, title = block[1].partition(" of ")
        if title not in ("", table.title):
            return block[0]
        if what == "differences":
            content = differences(table.differences(), METRICS)
        else:
            content = markdown(table, what)
        return f"<!-- evidence: {block[1]} -->\n\n{content}\n\n<!-- end -->"

    if table.page.exists():
        text = table.page.read_text(encoding="utf-8")
        pattern = r"<!-- evidence: (.+?) -->.*?<!-- end -->"
        write_text(table.page, re.sub(pattern, filled, text, flags=re.DOTALL))
        if table.picture:
            write_text(table.picture, standalone(drawn(table.comparison(METRICS[0]).known())))
