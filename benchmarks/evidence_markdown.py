"""A table of kept evidence as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from clclip.evaluation.continual import deviation, mean
from clclip.report.sections.conditions import Comparison, Outcome


class Compared(Protocol):
    """What has methods under conditions, by metric."""

    def comparison(self, metric: str) -> Comparison:
        """Return them by the metric's scores."""
        ...


class Paired(Protocol):
    """What compares two methods seed by seed under conditions."""

    @property
    def conditions(self) -> Mapping[str, Sequence[str]]:
        """Conditions and the lines of their names."""
        ...

    def paired(self, condition: str, metric: str) -> Mapping[int, float]:
        """Return the difference of the two, by seed."""
        ...


def differences(table: Paired, metrics: Sequence[str]) -> str:
    """Return the mean difference of two methods and its spread, over the seeds that both have."""
    lines = [f"|  | {' | '.join(metrics)} | seeds |", "|" + " --- |" * (len(metrics) + 2)]
    for condition, names in table.conditions.items():
        by_seed = [table.paired(condition, metric) for metric in metrics]
        if not all(by_seed):
            continue
        shown = []
        for values in (list(found.values()) for found in by_seed):
            spread = deviation(values)
            shown.append(f"{mean(values):+.1f}" + ("" if spread is None else f" ± {spread:.1f}"))
        seeds = ", ".join(str(seed) for seed in by_seed[0])
        lines.append(f"| {', '.join(names)} | {' | '.join(shown)} | {seeds} |")
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
