"""What text semantics decided in a classification stream, read from the weights of its tasks.

Three questions, each answered from tensors that ``clclip train`` leaves (their keys:
``clclip.classification.records``): which past adapters a new class was distilled from (relevance of
SG-AKT), how much a class borrows from which other (affinity of SE-VPR), and what refinement did to
the prototypes. Read without torch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup

from clclip.core.errors import InputError
from clclip.report.benchmark import Benchmark, Experiment
from clclip.report.plotting import load_matplotlib
from clclip.report.sections.cost_maps import picture
from clclip.report.svg import tag

logger = logging.getLogger(__name__)

NAMES = ("relevance", "relevance_tasks", "affinity", "raw", "refined")
LABELLED = 64  # classes whose names still fit beside the affinity matrix
NEAREST = 3
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Affinity:
    """The last task's affinity matrix: a picture, and per class its own and its largest weights."""

    drawn: Markup
    high: float
    lines: list[tuple[str, float, list[tuple[str, float]]]]


@dataclass(frozen=True)
class Prototypes:
    """Raw and refined prototypes: panels (title, variance share, chart), nearest other classes."""

    panels: list[tuple[str, float, Markup]]
    lines: list[tuple[str, int, list[tuple[str, float]]]]
    means: list[float]


@dataclass(frozen=True)
class Semantics:
    """What one experiment's weights tell; parts that its method does not have are empty."""

    experiment: Experiment
    tasks: list[int] = field(default_factory=list)
    relevance: list[tuple[str, int, dict[int, float]]] = field(default_factory=list)
    affinity: Affinity | None = None
    prototypes: Prototypes | None = None


def semantics(benchmark: Benchmark) -> list[Semantics]:
    """Return what the contestants' weights tell; methods without any of it are left out."""
    rows = []
    for experiment in [] if benchmark.detection else benchmark.contestants:
        try:
            one = _experiment(experiment, benchmark.groups)
        except InputError as error:
            logger.warning("no semantics of %s: %s", experiment.name, error)
            continue
        if one.relevance or one.affinity:
            rows.append(one)
    return rows


def _experiment(experiment: Experiment, groups: list[list[str]]) -> Semantics:
    """Read one experiment's records (first seed)."""
    names = [name for group in groups for name in group]
    task_of = {name: number for number, group in enumerate(groups, start=1) for name in group}
    records = [
        read_arrays(experiment.task_dir(task["task"]) / "weights.safetensors")
        for task in experiment.summary["tasks"]
    ]
    lines = relevance(records, groups)
    last = records[-1]
    affinity = prototypes = None
    if last.get("affinity", np.zeros(0)).shape == (len(names), len(names)):
        affinity = _affinity(last["affinity"], names, task_of)
    raw, refined = rows(records, "raw"), refined_rows(records)
    if raw is not None and refined is not None and len(raw) == len(refined) == len(names) > 2:
        prototypes = _prototypes(raw, refined, names, task_of)
    tasks = sorted({task for _, _, shares in lines for task in shares})
    return Semantics(experiment, tasks, lines, affinity, prototypes)


def read_arrays(path: Path) -> Arrays:
    """Return the tensors of a task's weights that the report shows.

    Raises:
        InputError: if the file is missing or not a complete safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            present = set(file.keys())
            return {name: file.get_tensor(name) for name in NAMES if name in present}
    except (OSError, SafetensorError) as error:
        raise InputError(f"not readable ({error})", path, "the weights of a task") from None


def relevance(
    records: list[Arrays], groups: list[list[str]]
) -> list[tuple[str, int, dict[int, float]]]:
    """Return (class, its task, past task -> relevance of its adapter) of every later class."""
    lines = []
    for number, (record, group) in enumerate(zip(records, groups, strict=False), start=1):
        table, tasks = record.get("relevance"), record.get("relevance_tasks")
        if table is None or tasks is None or table.shape != (len(group), len(tasks)):
            continue
        for name, row in zip(group, table, strict=True):
            shares = {int(task): float(v) for task, v in zip(tasks, row, strict=True)}
            if shares:
                lines.append((name, number, shares))
    return lines


def rows(records: list[Arrays], name: str) -> np.ndarray | None:
    """Return the rows (K, d) called ``name``, each class's from its own task, or None."""
    parts = [record[name] for record in records if name in record]
    return np.concatenate(parts).astype(np.float64) if parts else None


def refined_rows(records: list[Arrays]) -> np.ndarray | None:
    """Return the refined prototypes (K, d); a record with all rows (replay) replaces them."""
    table, seen = None, 0
    for record in records:
        if "refined" not in record:
            continue
        own = record["refined"].astype(np.float64)
        seen += len(record["raw"])
        table = own if table is None or len(own) == seen else np.concatenate([table, own])
    return table


def _affinity(matrix: np.ndarray, names: list[str], task_of: dict[str, int]) -> Affinity:
    """Return picture and table of an affinity matrix, whose rows sum to 1."""
    matrix = matrix.astype(np.float64)
    others = np.where(np.eye(len(names), dtype=bool), -1.0, matrix)
    # The diagonal outshines everything: the brightest colour is the largest weight beside it.
    high = max(float(others.max(initial=0.0)), 1e-6)
    lines = []
    for k, name in enumerate(names):
        near = np.argsort(-others[k], kind="stable")[: min(NEAREST, len(names) - 1)]
        lines.append((name, float(matrix[k, k]), [(names[j], float(matrix[k, j])) for j in near]))
    return Affinity(_matrix(matrix / high, names, task_of), high, lines)


def _matrix(shades: np.ndarray, names: list[str], task_of: dict[str, int]) -> Markup:
    """Return the picture of a matrix with class names on the left and lines between tasks."""
    count = len(names)
    cell = 14 if count <= LABELLED else 640 / count
    longest = max(map(len, names)) if count <= LABELLED else 0
    left, side = (min(12 + 6.4 * longest, 190) if longest else 34), cell * count
    parts = [
        tag("image", href=picture(shades), x=left, y=0, width=side, height=side,
            style="image-rendering:pixelated", preserveAspectRatio="none")
    ]  # fmt: skip
    starts = [k for k in range(1, count) if task_of[names[k]] != task_of[names[k - 1]]]
    for k in starts:
        at = k * cell
        parts.append(tag("path", d=f"M{left} {at:.1f}H{left + side:.1f}", class_="between"))
        parts.append(tag("path", d=f"M{left + at:.1f} 0V{side:.1f}", class_="between"))
    if count <= LABELLED:
        for k, name in enumerate(names):
            short = name if len(name) <= 27 else name[:26] + "…"
            parts.append(tag("text", tag("title", name), short, x=left - 6, y=(k + 0.74) * cell,
                             class_="tick", text_anchor="end"))  # fmt: skip
    for first, after in zip([0, *starts], [*starts, count], strict=True):
        middle, number = (first + after) / 2 * cell, task_of[names[first]]
        parts.append(tag("text", str(number), x=left + middle, y=side + 15, class_="tick",
                         text_anchor="middle"))  # fmt: skip
        if count > LABELLED:
            parts.append(tag("text", str(number), x=left - 6, y=middle + 4, class_="tick",
                             text_anchor="end"))  # fmt: skip
    parts.append(tag("text", "task", x=left + side / 2, y=side + 31, class_="label",
                     text_anchor="middle"))  # fmt: skip
    return tag("svg", *parts, class_="matrix", role="img", viewBox=f"0 0 {left + side:.0f} "
               f"{side + 36:.0f}", style=f"max-width:{left + side:.0f}px",
               aria_label="Affinity of class texts; the table below holds the largest")  # fmt: skip


def _prototypes(
    raw: np.ndarray, refined: np.ndarray, names: list[str], task_of: dict[str, int]
) -> Prototypes:
    """Return scatter charts and nearest other classes of raw and refined prototypes."""
    panels, nearest, means = [], [], []
    for title, table in (("raw", raw), ("refined", refined)):
        unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        cosine = unit @ unit.T
        apart = ~np.eye(len(names), dtype=bool)
        means.append(float(cosine[apart].mean()))
        best = np.where(apart, cosine, -2.0).argmax(axis=1)
        nearest.append([(names[j], float(cosine[k, j])) for k, j in enumerate(best)])
        places, share = two_axes(unit)
        panels.append((title, share, _scatter(places, names, task_of, title)))
    lines = [(name, task_of[name], [row[k] for row in nearest]) for k, name in enumerate(names)]
    return Prototypes(panels, lines, means)


def two_axes(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return (K, 2) principal components and the share of the variance that they keep.

    Signs are fixed by the largest coordinate, so that equal data give equal pictures.
    """
    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * sizes[:2]
    signs = np.sign(places[np.abs(places).argmax(axis=0), range(places.shape[1])])
    total = float((sizes**2).sum())
    return places * np.where(signs == 0, 1, signs), float((sizes[:2] ** 2).sum()) / max(
        total, 1e-12
    )


def task_colour(number: int, tasks: int) -> str:
    """Return the colour of a task, from early (blue) to late (orange)."""
    matplotlib = load_matplotlib()
    from matplotlib.colors import to_hex

    return to_hex(matplotlib.colormaps["plasma"](0.12 + 0.7 * (number - 1) / max(tasks - 1, 1)))


def _scatter(places: np.ndarray, names: list[str], task_of: dict[str, int], title: str) -> Markup:
    """Return points with the class's name as tooltip, coloured by task."""
    size, air = 320, 16
    reach = max(float(np.abs(places).max()), 1e-9)
    tasks = max(task_of.values())
    axes = tag("path", d=f"M{air} {size / 2}H{size - air}M{size / 2} {air}V{size - air}",
               class_="grid")  # fmt: skip
    points = []
    for name, (x, y) in zip(names, places, strict=True):
        at = [size / 2 + value / reach * (size / 2 - air) for value in (x, -y)]
        text = f"{name} (task {task_of[name]})"
        colour = task_colour(task_of[name], tasks)
        points.append(tag("circle", tag("title", text), cx=at[0], cy=at[1], r=5, fill=colour,
                          class_="dot"))  # fmt: skip
    return tag("svg", axes, *points, class_="chart scatter", viewBox=f"0 0 {size} {size}",
               role="img", aria_label=f"{title} prototypes on two axes")  # fmt: skip
