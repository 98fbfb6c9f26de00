"""Tables and plots of the documentation from the JSON files: python benchmarks/figures.py.

Between ``<!-- table: NAME -->`` and ``<!-- end -->`` a page gets the rows of NAME.json; plots go
to docs/images/performance_*.svg. Nothing is measured here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import measure

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "performance.md", DOCS / "results.md")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # Okabe and Ito


def found(name: str) -> dict[str, Any] | None:
    """Return what a benchmark wrote, None if it was not run."""
    path = measure.RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def cell(value: Any) -> str:
    """Return a value as text of three digits."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool | str | int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(content: dict[str, Any], key: str) -> str:
    """Return rows as Markdown, and the line that says what they were measured on."""
    rows = content[key]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in rows]
    host = content["machine"]
    device = host["gpu"] or f"{host['threads']} thread of {host['cpu']}"
    script = content["benchmark"].removesuffix("_trained")
    about = f"`python benchmarks/{script}.py`, {content['rounds']} rounds, {device}"
    return "\n".join([*lines, "", f"{about}, torch {host['torch']}, commit {host['commit']}."])


def fill(page: str) -> str:
    """Return the page with its tables filled in."""

    def filled(block: re.Match[str]) -> str:
        name, _, key = block[1].partition(".")
        content = found(name)
        inside = table(content, key or "rows") if content else "Not measured."
        return f"<!-- table: {block[1]} -->\n\n{inside}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (\S+) -->.*?<!-- end -->", filled, page, flags=re.DOTALL)


def rows_of(name: str, pattern: str, value: str) -> list[tuple[float, float]]:
    """Return (number in the row's name, value) of the rows whose name matches."""
    content, points = found(name), []
    for row in content["rows"] if content else []:
        label = str(next(iter(row.values())))
        if match := re.fullmatch(pattern, label):
            points.append((float(match[1]), float(row[value])))
    return sorted(points)


def lines(path: str, title: str, x: str, y: str, series: dict[str, list]) -> None:
    """Draw one plot; series without points are left out."""
    figure, axis = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    for colour, (label, points) in zip(COLOURS, series.items(), strict=False):
        if points:
            axis.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    if any(series.values()):
        axis.legend(fontsize=8)
    figure.savefig(DOCS / "images" / f"performance_{path}.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Write the pages and their plots."""
    matplotlib.rcParams["svg.hashsalt"] = "clclip"  # equal figures are equal files
    step = {
        "F-ViT": rows_of("training_step", r"fvit K=(\d+)", "ms"),
        "CL-CLIP": rows_of("training_step", r"clclip K=(\d+)", "ms"),
    }
    lines("step", "Training step, batch of 8", "current classes", "ms", step)
    inference = {
        "CL-CLIP, routed by share": rows_of("inference", r"clclip share K=(\d+)", "ms per image"),
        "CL-CLIP, routed by prior": rows_of("inference", r"clclip prior K=(\d+)", "ms per image"),
        "CL-CLIP, every pair": rows_of("inference", r"clclip all K=(\d+)", "ms per image"),
    }
    lines("inference", "Inference", "classes", "ms per image", inference)
    two = [(2.0, value) for count, value in inference["CL-CLIP, routed by share"] if count == 20]
    tasks = two + rows_of("inference", r"clclip share K=\d+ T=(\d+)", "ms per image")
    lines("tasks", "Inference, 20 classes", "tasks (paths)", "ms per image", {"CL-CLIP": tasks})
    for page in PAGES:
        page.write_text(fill(page.read_text()))


if __name__ == "__main__":
    main()
