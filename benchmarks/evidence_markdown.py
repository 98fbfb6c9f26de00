"""A table of kept evidence as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from clclip.evaluation.continual import deviation, mean
from clclip.report.sections.conditions import Comparison, Outcome


class Compared(Protocol):
    """What has methods under conditions, by metric."""

    def comparison(self, metric: str) -> Comparison:
        """Return them by the metric's scores."""
        ...


@dataclass(frozen=True)
class Difference:
    """How far one method is above another under a condition: by metric, by seed."""

    condition: str
    other: str
    by_metric: Sequence[Mapping[int, float]]


def differences(found: Sequence[Difference], metrics: Sequence[str]) -> str:
    """Return the means of differences and their spread, over the seeds that both methods have."""
    lines = [f"|  | above | {' | '.join(metrics)} | seeds |", "|" + " --- |" * (len(metrics) + 3)]
    for one in found:
        if not all(one.by_metric):
            continue
        shown = []
        for values in (list(by_seed.values()) for by_seed in one.by_metric):
            spread = deviation(values)
            shown.append(f"{mean(values):+.1f}" + ("" if spread is None else f" ± {spread:.1f}"))
        seeds = ", ".join(str(seed) for seed in one.by_metric[0])
        lines.append(f"| {one.condition} | {one.other} | {' | '.join(shown)} | {seeds} |")
    return "\n".join(lines)


def markdown(table: Compared, metric: str) -> str:
    """Return one metric's table: all classes, and in brackets earlier / last task's classes."""
    compared = table.comparison(metric)
    heads = ["", *(", ".join(names) for names in compared.conditions)]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for (name, upper), row in zip(compared.methods, compared.cells, strict=True):
        shown = [
            _shown(cell, not upper and cell is not None and cell.all == compared.best(column))
            for column, cell in enumerate(row)
        ]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _shown(cell: Outcome | None, best: bool) -> str:
    """Return one cell as Markdown."""
    if cell is None or cell.all is None:
        return "–"
    spread = "" if cell.std is None else f" ± {cell.std:.1f}"
    number = f"**{cell.all:.1f}**" if best else f"{cell.all:.1f}"
    parts = [f"{value:.1f}" for value in (cell.previous, cell.current) if value is not None]
    return f"{number}{spread} ({' / '.join(parts)})"
