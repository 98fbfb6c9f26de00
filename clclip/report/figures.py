"""The charts as files, by matplotlib: for slides and papers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clclip.core.artifacts import PARTS
from clclip.core.files import replacing
from clclip.report.benchmark import Benchmark, curve
from clclip.report.plotting import drawing
from clclip.report.sections.heatmap import heatmap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTER = 0.085  # inches that a wide letter takes at 8 points
MARKERS, DASHES = "os^Dv", ("-", "--", ":", "-.", (0, (6, 2)))


def write_figures(
    benchmarks: Sequence[Benchmark], folder: Path, format_: str, dpi: int
) -> list[Path]:
    """Write curves and heat map of every benchmark.

    Args:
        benchmarks: what to draw.
        folder: where; made if missing.
        format_: ``svg`` or ``png``.
        dpi: resolution of PNG files.
    """
    look = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e0d6",
        "axes.axisbelow": True,
        "svg.hashsalt": "clclip",
        "svg.fonttype": "none",
        "text.parse_math": False,
    }
    written = []
    with drawing(look):
        for benchmark, stem in zip(benchmarks, stems(benchmarks), strict=True):
            for name, figure in (("curves", _curves(benchmark)), ("classes", _classes(benchmark))):
                path = folder / f"{stem}_{name}.{format_}"
                extra: dict[str, Any] = {"metadata": {"Date": None}} if format_ == "svg" else {}
                with replacing(path) as temporary:
                    figure.savefig(temporary, format=format_, dpi=dpi, bbox_inches="tight", **extra)
                written.append(path)
    return written


def stems(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Return one file name stem per benchmark, all different."""
    result: list[str] = []
    for benchmark in benchmarks:
        first = benchmark.first
        words = f"{first['kind']}_{first.get('dataset') or 'data'}_{benchmark.sizes}"
        stem = re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_").lower()[:80]
        number = 1 + sum(other.startswith(stem) for other in result)
        result.append(stem if number == 1 else f"{stem}_setting{number}")
    return result


def _curves(benchmark: Benchmark) -> Figure:
    """Return P, C, A after each task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for axis, part in zip(axes, PARTS, strict=True):
        axis.set(title=benchmark.part_name(part), xlabel="after task")
        ticks = range(1, len(benchmark.groups) + 1)
        axis.set_xticks(ticks if len(ticks) <= 10 else ticks[:: -(-len(ticks) // 10)])
        axis.set_xlim(0.7, len(benchmark.groups) + 0.3)
        for place, experiment in enumerate(benchmark.experiments):
            points = curve(benchmark, experiment, part)
            if experiment.joint:
                for _, value in points:
                    axis.axhline(value, color=experiment.colour, linestyle=":",
                                 label=experiment.label)  # fmt: skip
                continue
            if not points:
                continue
            axis.plot(
                *zip(*points, strict=True),
                color=experiment.colour, marker=MARKERS[place % 5], linestyle=DASHES[place % 5],
                label=experiment.label,
            )  # fmt: skip
    axes[0].set_ylabel(f"{benchmark.first.get('metric') or 'score'} (%)")
    handles, labels = axes[-1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def panel_title(label: str, inches: float) -> str:
    """Return a label in lines that fit over a panel at 8 points, so that neighbours do not meet."""
    return textwrap.fill(label, max(int(inches / LETTER), 5))


def _classes(benchmark: Benchmark) -> Figure:
    """Return class x task scores, one panel per experiment."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
    from matplotlib.figure import Figure

    heat = heatmap(benchmark)
    norm = TwoSlopeNorm(heat.scale.middle, heat.scale.low, heat.scale.high)
    count = len(heat.lines)
    widths = [len(tasks) for _, tasks in heat.columns]
    width = min(2.2 + sum(max(0.5 * n, 1.5) for n in widths), 40)
    inches = [(width - 2.2) * n / sum(widths) for n in widths]
    figure = Figure(figsize=(width, min(1.2 + 0.24 * count, 60)), layout="constrained")
    axes = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    shades = LinearSegmentedColormap.from_list("lost", ["#b84a0c", "#f4efe4", "#12679f"])
    for index, (axis, (experiment, tasks)) in enumerate(zip(axes, heat.columns, strict=True)):
        values = np.array(
            [
                [np.nan if c.value is None else c.value for c in line.cells[index][0]]
                for line in heat.lines
            ]
        )
        image = axis.imshow(values, norm=norm, cmap=shades, aspect="auto")
        axis.set_title(panel_title(experiment.label, inches[index]), fontsize=8)
        axis.set_xticks(range(len(tasks)), ["final"] if experiment.joint else tasks)
        axis.set_xlabel("after task")
        axis.grid(False)
    axes[0].set_yticks(range(count), [line.name for line in heat.lines], fontsize=7)
    figure.colorbar(image, ax=axes, label=f"{benchmark.first.get('metric') or 'score'} (%)")
    return figure
