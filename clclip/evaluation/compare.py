"""Is experiment A better than B? Paired, class by class, with confidence intervals.

Both were scored on the same test images, so both are re-scored on the same resampled images
(bootstrap), with their seeds paired where they ran the same ones. The interval of the difference is
much narrower than either score's own, because easy and hard images are easy and hard for both. It
speaks for these trained models on new images; the spread over training seeds is given beside it
where there are at least two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError, nearest
from clclip.core.files import read_json
from clclip.core.task import read_task, seen_classes
from clclip.evaluation.ap import COCO_IOUS, METRIC_NAMES, average_precision
from clclip.evaluation.comparable import LIKE
from clclip.evaluation.continual import deviation
from clclip.evaluation.matching import ClassMatches, Matching
from clclip.evaluation.predictions import class_ids, read_detections, read_probabilities
from clclip.evaluation.score import parts

LEVEL = 0.95
RESULTS, SUMMARY = Path("results"), "summary.json"


@dataclass(frozen=True)
class Difference:
    """A minus B in points, with its confidence interval; None where it cannot be measured."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """The comparison of two experiments after their last task.

    Attributes:
        a, b: their names.
        metric: what the numbers are.
        seeds: the seeds both ran, over which numbers are means.
        images: number of test images that were resampled.
        parts: "P", "C", "A" -> difference.
        classes: class -> difference, in the order of the stream.
        seed_std: standard deviation over seeds of the difference of A, None for one seed.
    """

    a: str
    b: str
    metric: str
    seeds: list[int]
    images: int
    parts: dict[str, Difference]
    classes: dict[str, Difference]
    seed_std: float | None


def find_result(given: Path) -> Path:
    """Return the folder of a finished experiment: as it was given, else of that name in results.

    Raises:
        InputError: if neither is one; it names what was given, and the nearest that there is.
    """
    here = given.parent if given.name == SUMMARY else given
    for folder in (here, RESULTS / here):
        if _is_finished(folder):
            return folder
    whole = next((folder for folder in given.parents if _is_finished(folder)), None)
    if whole is not None:
        raise InputError(f"{given} is a part of an experiment", "compare", f"the whole: {whole}")
    folder = next((folder for folder in (here, RESULTS / here) if folder.is_dir()), None)
    if folder is not None and folder.name != RESULTS.name:
        what = f"{folder} has no {SUMMARY}: no experiment, or not run to its end"
        raise InputError(what, "compare", "the folder of a finished experiment")
    place = RESULTS if here.parent == Path() else here.parent
    there = sorted(path.name for path in place.glob("*") if _is_finished(path))
    what = f"no experiment {str(given)!r}{nearest(given.name, there)}"
    known = f"one of {', '.join(there[:8])}" if there else "the folder of a finished experiment"
    raise InputError(what, place, known)


def _is_finished(folder: Path) -> bool:
    """Tell whether it is results/EXPERIMENT with a summary; that of a seed has its tasks beside."""
    return (folder / SUMMARY).is_file() and not (folder / "task1").is_dir()


def compare(first: Path, second: Path, samples: int = 1000, random_seed: int = 0) -> Comparison:
    """Compare two experiments.

    Args:
        first: results/EXPERIMENT of A.
        second: results/EXPERIMENT of B.
        samples: bootstrap samples.
        random_seed: of the resampling.

    Raises:
        InputError: if the two do not share images, image rule, classes, metric and a seed.
    """
    sides = [
        read_stage_file(folder / "summary.json", "summary", ("metric",))
        for folder in (first, second)
    ]
    for key in LIKE:
        here, there = (side.get(key) for side in sides)
        if here != there:
            shown = "" if key == "groups" else f", {here!r}"
            expected = f"that of {first}{shown}, to compare like with like"
            raise InputError(f"different {key}", second, expected)
    seeds = [seed for seed in sides[0]["seeds"] if seed in sides[1]["seeds"]]
    if not seeds:
        raise InputError(f"seeds {sides[1]['seeds']}", second, f"one of {sides[0]['seeds']}")
    metric = sides[0]["metric"]
    last = [len(side["tasks"]) for side in sides]
    folders = [
        [folder / f"seed{seed}" / f"task{task}" for seed in seeds]
        for folder, task in zip((first, second), last, strict=True)
    ]
    chain = [folder for side in folders for folder in side]
    if sides[0]["kind"] == "detection":
        flavour = {name: key for key, name in METRIC_NAMES.items()}[metric]
        images, scorers = _detections(chain, flavour)
        metric += " on all test images" if sides[0].get("images") == "group" else ""
    else:
        images, scorers = _classifications(chain)
    rng = np.random.default_rng(random_seed)
    weights = [np.ones(images, dtype=np.int64)]
    weights += [
        np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(samples)
    ]
    names = [name for group in sides[0]["groups"] for name in group]
    # (2 sides, seeds, 1 + samples, score and weight, K); NaN: a sample without the class
    scores = np.array([[score(w) for w in weights] for score in scorers])
    scores = scores.reshape(2, len(seeds), 1 + samples, 2, len(names))
    members = parts({"groups": sides[0]["groups"]})
    columns = {part: [names.index(name) for name in group] for part, group in members.items()}
    by_part = {part: _difference(scores[..., own]) for part, own in columns.items()}
    per_seed = [_mean(scores[0, k, :1])[0] - _mean(scores[1, k, :1])[0] for k in range(len(seeds))]
    return Comparison(
        sides[0]["experiment"],
        sides[1]["experiment"],
        metric,
        seeds,
        images,
        by_part,
        {name: _difference(scores[..., [k]]) for k, name in enumerate(names)},
        deviation([None if np.isnan(gap) else float(gap) for gap in per_seed]),
    )


def _mean(scores: np.ndarray) -> np.ndarray:
    """Return the weighted mean over classes of (..., 2, K) scores and weights, NaN without any."""
    values, sizes = scores[..., 0, :], scores[..., 1, :]
    known = ~np.isnan(values)
    total = np.where(known, values * sizes, 0.0).sum(axis=-1)
    count = np.where(known, sizes, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1e-12), np.nan)


def _difference(scores: np.ndarray) -> Difference:
    """Return the mean difference of (2 sides, seeds, 1 + samples, 2, K) scores and weights."""
    if scores.shape[-1] == 0:
        return Difference(None, None, None, None, None)
    a, b = _mean(scores).mean(axis=1)
    gaps = a - b
    if np.isnan(gaps[0]):
        return Difference(None, None, None, None, None)
    drawn = gaps[1:][~np.isnan(gaps[1:])]
    if drawn.size == 0:
        return Difference(float(a[0]), float(b[0]), float(gaps[0]), None, None)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(float(a[0]), float(b[0]), float(gaps[0]), float(low), float(high))


class _ClassScores:
    """AP of every class under weights of the images; classes weigh the same."""

    def __init__(self, levels: Sequence[Mapping[str, ClassMatches]], reading: str) -> None:
        self.matches = [[level[name] for level in levels] for name in levels[0]]
        self.reading = reading

    def __call__(self, weights: np.ndarray) -> list[list[float]]:
        """Return percent and weight per class; an image drawn twice counts as two images."""
        values = [
            float(np.mean([self._class(found, weights) for found in levels]))
            for levels in self.matches
        ]
        return [values, [1.0] * len(values)]

    def _class(self, found: ClassMatches, weights: np.ndarray) -> float:
        ranked = np.repeat(found.true_positive, weights[found.images])
        objects = int(weights[found.object_images].sum())
        value = average_precision(ranked, objects, self.reading)
        return float("nan") if value is None else 100 * value


class _ClassAccuracy:
    """Accuracy of every class under weights of the images; classes weigh as their images."""

    def __init__(self, labels: np.ndarray, right: np.ndarray, classes: int) -> None:
        self.labels, self.right, self.classes = labels, right, classes

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Return percent and weight per class."""
        total = np.bincount(self.labels, weights, self.classes)
        hits = np.bincount(self.labels, weights * self.right, self.classes)
        return np.stack([np.where(total > 0, 100 * hits / np.maximum(total, 1), np.nan), total])


def _detections(folders: Sequence[Path], flavour: str) -> tuple[int, list[Any]]:
    """Return the number of images and one scorer per folder."""
    ious, reading = (COCO_IOUS, "coco101") if flavour == "coco" else ((0.5,), flavour)
    first, scorers = read_json(folders[0] / "test.json"), []
    for folder in folders:
        truth = read_json(folder / "test.json")
        if [i["id"] for i in truth["images"]] != [i["id"] for i in first["images"]]:
            raise InputError("other test images", folder, f"those of {folders[0]}")
        ids = class_ids(truth, seen_classes(read_task(folder / "task.json")), folder / "test.json")
        rows = read_detections(folder / "predictions.json", truth, ids)
        found = Matching(truth, rows, ids)
        scorers.append(_ClassScores([found.match(iou) for iou in ious], reading))
    return len(first["images"]), scorers


def _classifications(folders: Sequence[Path]) -> tuple[int, list[Any]]:
    """Return the number of images and one scorer per folder; images in the order of their ids."""
    known, scorers = None, []
    for folder in folders:
        names = seen_classes(read_task(folder / "task.json"))
        truth = read_json(folder / "test.json")
        labels, predicted = read_probabilities(folder / "predictions.json", truth, names)
        images = read_json(folder / "predictions.json")["images"]
        order = sorted(range(len(images)), key=lambda k: str(images[k]))
        if known is None:
            known = [images[k] for k in order]
        elif known != [images[k] for k in order]:
            raise InputError("other test images", folder, f"those of {folders[0]}")
        index = np.array([names.index(labels[k]) for k in order])
        right = np.array([labels[k] == predicted[k] for k in order])
        scorers.append(_ClassAccuracy(index, right, len(names)))
    return len(known or []), scorers


def as_text(found: Comparison) -> str:
    """Return a comparison as an aligned table; ``*`` marks intervals that leave zero out."""

    def line(name: str, row: Difference) -> list[str]:
        if row.difference is None:
            return [name, "–", "–", "–", "", ""]
        sure = row.low is not None and (row.low > 0 or row.high < 0)
        span = "" if row.low is None else f"[{row.low:+.1f}, {row.high:+.1f}]"
        return [name, f"{row.a:.1f}", f"{row.b:.1f}", f"{row.difference:+.1f}", span, "*" * sure]

    head = ["", "A", "B", "A - B", f"{LEVEL:.0%} interval", ""]
    body = [line(part, row) for part, row in found.parts.items()]
    body += [line(f"  {name}", row) for name, row in found.classes.items()]
    widths = [max(len(row[k]) for row in [head, *body]) for k in range(len(head))]
    table = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *body]
    ]
    seeds = ", ".join(map(str, found.seeds))
    lines = [
        f"A = {found.a}, B = {found.b}: {found.metric} in percent, seeds {seeds}",
        *table,
        f"* the interval leaves 0 out; bootstrap over {found.images} test images",
    ]
    if empty := [name for name, row in found.classes.items() if row.difference is None]:
        count = f"{len(empty)} of {len(found.classes)} classes"
        lines.append(f"{count} not scored, without test instances: {', '.join(empty)}")
    if found.seed_std is not None:
        lines.append(
            f"over seeds, the difference of A has a standard deviation of {found.seed_std:.1f}"
        )
    return "\n".join(lines) + "\n"
