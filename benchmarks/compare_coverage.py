"""Coverage of the intervals of clclip compare: python benchmarks/compare_coverage.py [--quick].

Two detectors are described by how they find, rank and place objects; their difference in AP on a
test set without end is then known. Small test sets are drawn, and counted is how often the 95 %
interval of each holds the known difference, beside the percentile and the basic interval of the
bootstrap. Likewise two classifiers, and several seeds whose trainings differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import measure
import numpy as np

from clclip.evaluation.ap import COCO_IOUS, average_precision
from clclip.evaluation.compare import PairedAccuracy, PairedAp
from clclip.evaluation.interval import Difference
from clclip.evaluation.matching import ClassMatches

READINGS = {
    "AP50": ((0.5,), "voc_area"),
    "AP75": ((0.75,), "voc_area"),
    "AP[.50:.95]": (COCO_IOUS, "coco101"),
}
Level = dict[str, ClassMatches]


@dataclass(frozen=True)
class Detectors:
    """Two detectors on a population of images; pairs are (A, B).

    Attributes:
        classes: number of classes.
        objects: mean number of objects per image and class.
        images: of a test set.
        overlap: mean IoU of a found object's box; its deviation is ``blur``.
        recall: log-odds of finding an object.
        rank: mean score of a found object, in deviations above that of a false detection.
        false: mean number of false detections per image and class.
        hardness: deviation over images of what makes all objects of an image harder for both.
        training: deviation over trainings of recall and rank.
    """

    classes: int
    objects: float
    images: int
    overlap: tuple[float, float]
    blur: float
    recall: tuple[float, float]
    rank: tuple[float, float]
    false: float
    hardness: float = 0.7
    training: float = 0.0


POPULATIONS = {
    "one precise, one rough; few objects a class": Detectors(
        12, 0.1, 60, (0.88, 0.68), 0.07, (4, 4), (3, 3), 0.05
    ),
    "alike": Detectors(5, 0.4, 60, (0.78, 0.76), 0.09, (2, 1.8), (2, 1.9), 0.4),
    "one better in all": Detectors(5, 0.5, 100, (0.82, 0.75), 0.09, (2, 1.2), (2.5, 1.8), 0.5),
    "both near the ceiling": Detectors(8, 0.3, 60, (0.9, 0.88), 0.04, (4, 3.3), (4, 4), 0.05),
    "both poor": Detectors(5, 0.5, 60, (0.72, 0.65), 0.12, (0.5, 0), (1, 0.8), 1.5, 1.0),
}
SHIFTING = Detectors(5, 0.4, 60, (0.82, 0.76), 0.09, (2, 1.5), (2.3, 2), 0.4, training=0.2)
ACCURACIES = {  # of A and B, test images
    "0.80 and 0.72": (0.80, 0.72, 60),
    "0.60 and 0.55": (0.60, 0.55, 200),
    "0.98 and 0.97": (0.98, 0.97, 60),
}


def matches(pair: Detectors, images: int, seeds: int, rng: np.random.Generator) -> list[Any]:
    """Draw a test set, and return the matches of A's seeds, then B's, at each of ``COCO_IOUS``."""
    hard = rng.normal(0, pair.hardness, images)
    levels: list[list[Level]] = [[{} for _ in COCO_IOUS] for _ in range(2 * seeds)]
    trained = rng.normal(0, pair.training, (2 * seeds, 2))
    for k in range(pair.classes):
        objects = np.repeat(np.arange(images), rng.poisson(pair.objects, images))
        shared = rng.normal(0, 1, objects.size)
        for run, (recall, rank) in enumerate(trained):
            side = run // seeds
            own = (shared + rng.normal(0, 1, objects.size)) / 2**0.5
            overlap = pair.overlap[side] + pair.blur * own - 0.05 * hard[objects]
            odds = pair.recall[side] + recall + 0.5 * shared - hard[objects]
            found = rng.random(objects.size) < 1 / (1 + np.exp(-odds))
            scores = rng.normal(pair.rank[side] + rank, 1, objects.size) - 0.5 * hard[objects]
            wrong = np.repeat(np.arange(images), rng.poisson(pair.false * np.exp(0.3 * hard)))
            scores = np.concatenate([scores[found], rng.normal(0, 1, wrong.size)])
            overlap = np.concatenate([overlap[found], np.zeros(wrong.size)])
            places = np.concatenate([objects[found], wrong])
            order = np.argsort(-scores)
            for level, iou in zip(levels[run], COCO_IOUS, strict=True):
                right = overlap[order] >= iou
                level[f"class {k}"] = ClassMatches(scores[order], right, places[order], objects)
    return levels


def mean_ap(levels: Sequence[Level], reading: str, drawn: np.ndarray | None = None) -> float:
    """Return the mean AP in percent; ``drawn`` (images,) counts how often an image stands there."""
    values = []
    for level in levels:
        for found in level.values():
            right, objects = found.true_positive, found.object_images.size
            if drawn is not None:
                right = np.repeat(right, drawn[found.images])
                objects = int(drawn[found.object_images].sum())
            values.append(average_precision(right, objects, reading))
    return 100 * float(np.mean([value for value in values if value is not None]))


def truths(pair: Detectors, images: int) -> dict[str, float]:
    """Return A minus B on a test set so large that its own chance does not matter."""
    rng, seeds = np.random.default_rng(10**6), 20 if pair.training else 1
    values: dict[str, list[float]] = {name: [] for name in READINGS}
    for _ in range(seeds):
        levels = matches(pair, images // seeds, seeds, rng)
        for name, (ious, reading) in READINGS.items():
            own = [mean_ap(_chosen(run, ious), reading) for run in levels]
            values[name].append(float(np.mean(own[:seeds]) - np.mean(own[seeds:])))
    return {name: float(np.mean(own)) for name, own in values.items()}


def _chosen(run: Sequence[Level], ious: Sequence[float]) -> list[Level]:
    return [level for level, iou in zip(run, COCO_IOUS, strict=True) if iou in ious]


def bootstrap(
    levels: list[Any], ious: Sequence[float], reading: str, images: int, samples: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the percentile and the basic interval of A - B, one seed."""
    rng, (a, b) = np.random.default_rng(0), (_chosen(run, ious) for run in levels)
    gaps = []
    for _ in range(samples):
        drawn = np.bincount(rng.integers(images, size=images), minlength=images)
        gaps.append(mean_ap(a, reading, drawn) - mean_ap(b, reading, drawn))
    low, high = np.quantile(gaps, [0.025, 0.975])
    gap = mean_ap(a, reading) - mean_ap(b, reading)
    return (low, high), (2 * gap - high, 2 * gap - low)


def detectors(name: str, pair: Detectors, seeds: int, sets: int, samples: int, large: int) -> list:
    """Return one row per reading; for several seeds only the first, whose spread is largest."""
    readings = READINGS if seeds == 1 else {"AP50": READINGS["AP50"]}
    truth, names = truths(pair, large), [f"class {k}" for k in range(pair.classes)]
    ends: dict[str, dict[str, list]] = {reading: {} for reading in readings}
    for number in range(sets):
        levels = matches(pair, pair.images, seeds, np.random.default_rng(number))
        for key, (ious, reading) in readings.items():
            own = [_chosen(run, ious) for run in levels]
            found = PairedAp(own, pair.images, reading, samples).difference(names, names)
            ends[key].setdefault("ours", []).append((found.low, found.high))
            if seeds == 1 and len(ious) == 1:
                both = bootstrap(levels, ious, reading, pair.images, samples)
                for kind, pair_of_ends in zip(("percentile", "basic"), both, strict=True):
                    ends[key].setdefault(kind, []).append(pair_of_ends)
    return [
        {"population": name, "metric": key, "seeds": seeds, "difference": truth[key]}
        | _coverage(ends[key], truth[key])
        for key in readings
    ]


def classifiers(name: str, a: float, b: float, images: int, sets: int) -> dict[str, Any]:
    """Return the row of two classifiers that are often right on the same images."""
    ends = []
    for number in range(sets):
        rng = np.random.default_rng(number)
        # one threshold of each image's hardness decides for both four times in five
        same = rng.random(images) < 0.8
        draws = np.where(same, rng.random(images), rng.random((2, images)))
        right = draws < np.array([[a], [b]])
        found: Difference = PairedAccuracy(["x"] * images, right[:, None]).difference(["x"])
        ends.append((found.low, found.high))
    truth = 100 * (a - b)
    row = {"population": name, "metric": "accuracy", "seeds": 1, "difference": truth}
    return row | _coverage({"ours": ends}, truth)


def _coverage(ends: dict[str, list], truth: float) -> dict[str, Any]:
    """Return the share of intervals that hold the truth, and our mean width and misses."""
    bounds = {kind: np.array(pairs, dtype=float) for kind, pairs in ends.items()}
    row = {
        kind: float(((own[:, 0] <= truth) & (truth <= own[:, 1])).mean())
        for kind, own in bounds.items()
    }
    ours = bounds["ours"]
    return row | {
        "too high": float((truth < ours[:, 0]).mean()),
        "too low": float((truth > ours[:, 1]).mean()),
        "width": float((ours[:, 1] - ours[:, 0]).mean()),
    }


def main() -> None:
    """Measure and write compare_coverage.json."""
    chosen = measure.options(__doc__, sets={"type": int, "default": 200, "help": "test sets"})
    sets, samples, large = (3, 10, 200) if chosen.quick else (chosen.sets, 100, 40_000)
    rows = []
    for name, pair in POPULATIONS.items():
        rows += detectors(name, pair, 1, sets, samples, large)
    for seeds in (2, 3, 5):
        rows += detectors("trainings differ", SHIFTING, seeds, sets, samples, large)
    rows += [classifiers(name, *one, sets=10 * sets) for name, one in ACCURACIES.items()]
    measure.write("compare_coverage", chosen, rows, test_sets=sets, halves=samples)


if __name__ == "__main__":
    main()
