"""A table of kept evidence as Markdown."""

from __future__ import annotations

from typing import Protocol

from clclip.report.sections.conditions import Comparison, Outcome


class Compared(Protocol):
    """What has methods under conditions, by metric."""

    def comparison(self, metric: str) -> Comparison:
        """Return them by the metric's scores."""
        ...


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
