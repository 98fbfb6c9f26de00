"""Is experiment A better than B? Paired, class by class, with confidence intervals.

Both were scored on the same test images, so both are re-scored on the same halves of them, with
their seeds paired where they ran the same ones. The interval of the difference is much narrower
than either score's own, because easy and hard images are easy and hard for both. With one seed it
speaks for these two trained models on new images; with several, for new trainings too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError, nearest
from clclip.core.files import read_json
from clclip.core.task import has_boxes, read_task, seen_classes
from clclip.evaluation.ap import COCO_IOUS, METRIC_NAMES, average_precision_on
from clclip.evaluation.comparable import COMPARED
from clclip.evaluation.continual import deviation
from clclip.evaluation.interval import LEVEL, NOTHING, Difference, halves, of_halves, of_images
from clclip.evaluation.matching import ClassMatches, Matching
from clclip.evaluation.predictions import class_ids, read_detections, read_probabilities
from clclip.evaluation.score import images_with, parts

RESULTS, SUMMARY = Path("results"), "summary.json"


@dataclass(frozen=True)
class Comparison:
    """The comparison of two experiments after their last task.

    Attributes:
        a, b: their names.
        metric: what the numbers are.
        seeds: the seeds both ran, over which numbers are means.
        images: number of test images behind the intervals.
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
    unfinished = next((folder for folder in (here, RESULTS / here) if folder.is_dir()), None)
    if unfinished is not None and unfinished.name != RESULTS.name:
        what = f"{unfinished} has no {SUMMARY}: no experiment, or not run to its end"
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
        samples: halves of the test images that AP is scored on; accuracy needs none.
        random_seed: of the halves.

    Raises:
        InputError: if the two do not share images, image rule, classes, metric and a seed.
    """
    sides = [
        read_stage_file(folder / "summary.json", "summary", ("metric",))
        for folder in (first, second)
    ]
    for key in COMPARED:
        here, there = (side.get(key) for side in sides)
        if here != there:
            shown = "" if key == "groups" else f", {here!r}"
            expected = f"that of {first}{shown}, to compare like with like"
            raise InputError(f"different {key}", second, expected)
    seeds = [seed for seed in sides[0]["seeds"] if seed in sides[1]["seeds"]]
    if not seeds:
        raise InputError(f"seeds {sides[1]['seeds']}", second, f"one of {sides[0]['seeds']}")
    folders = [
        folder / f"seed{seed}" / f"task{len(side['tasks'])}"
        for folder, side in zip((first, second), sides, strict=True)
        for seed in seeds
    ]
    scores: PairedAp | PairedAccuracy
    if has_boxes(sides[0]):
        scores = _detections(folders, sides[0], samples, random_seed)
    else:
        scores = _classifications(folders)
    members = parts(sides[0]["groups"])
    own = {name: group for group in sides[0]["groups"] for name in group}
    gaps = scores.gaps(members["A"])
    return Comparison(
        sides[0]["experiment"],
        sides[1]["experiment"],
        sides[0]["metric"],
        seeds,
        scores.images,
        {part: scores.difference(names, names) for part, names in members.items()},
        {name: scores.difference([name], group) for name, group in own.items()},
        deviation([None if np.isnan(gap) else float(gap) for gap in gaps]),
    )


class PairedAp:
    """AP of two detectors, with several seeds each, on all test images and on halves of them.

    Args:
        levels: of A, seed by seed, then of B: the matches of all classes at each overlap.
        images: number of test images.
        metric: how the area under the curve is taken, as ``average_precision`` takes it.
        samples: number of halves.
        random_seed: of the halves.
        holding: (images,) bool, the images that a group of classes is scored on; None where every
            class is scored on all.
    """

    def __init__(
        self,
        levels: Sequence[Sequence[Mapping[str, ClassMatches]]],
        images: int,
        metric: str,
        samples: int,
        random_seed: int = 0,
        holding: Callable[[Sequence[str]], np.ndarray] | None = None,
    ) -> None:
        self.levels, self.images, self.metric, self.holding = levels, images, metric, holding
        drawn = halves(images, samples, np.random.default_rng(random_seed))
        self.sets = np.concatenate([np.ones((1, images), dtype=bool), drawn])
        self.known: dict[tuple[str, ...], np.ndarray] = {}

    def difference(self, names: Sequence[str], group: Sequence[str]) -> Difference:
        """Return the difference of the mean AP of ``names``, on the images of ``group``."""
        if not names:
            return NOTHING
        scores = self._mean(names, group)
        return of_halves(scores[..., 0], scores[..., 1:], self.images)

    def gaps(self, names: Sequence[str]) -> np.ndarray:
        """Return A minus B of each seed, (S,)."""
        whole = self._mean(names, names)[..., 0]
        return whole[0] - whole[1]

    def _mean(self, names: Sequence[str], group: Sequence[str]) -> np.ndarray:
        """Return (2, S, 1 + samples) mean AP over the classes with an object; NaN: none has one."""
        values = np.stack([self._scores(name, group if self.holding else ()) for name in names])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a mean of nothing
            return np.nanmean(values, axis=0)

    def _scores(self, name: str, group: Sequence[str]) -> np.ndarray:
        """Return (2, S, 1 + samples) AP of a class in percent; an empty group: on all images."""
        key = (name, *group)
        if key not in self.known:
            sets = self.sets & self.holding(group) if self.holding and group else self.sets
            values = [
                np.mean([self._ap(level[name], sets) for level in levels], axis=0)
                for levels in self.levels
            ]
            self.known[key] = np.reshape(values, (2, len(self.levels) // 2, len(sets)))
        return self.known[key]

    def _ap(self, matches: ClassMatches, sets: np.ndarray) -> np.ndarray:
        """Return AP in percent on each set of images, (1 + samples,)."""
        places = matches.true_positive, matches.images, matches.object_images
        return 100 * average_precision_on(*places, sets, self.metric)


class PairedAccuracy:
    """Accuracy of two classifiers, with several seeds each.

    Args:
        labels: (n,) class names of the test images.
        right: (2, S, n) bool, whether A and B got each image right, per seed.
    """

    def __init__(self, labels: Sequence[str], right: np.ndarray) -> None:
        self.labels, self.right, self.images = np.array(labels), right, len(labels)

    def difference(self, names: Sequence[str], group: Sequence[str] = ()) -> Difference:
        """Return the difference of accuracy on the images of ``names``."""
        return of_images(self._of(names))

    def gaps(self, names: Sequence[str]) -> np.ndarray:
        """Return A minus B of each seed, (S,)."""
        own = self._of(names)
        return 100 * (own[0].mean(axis=1) - own[1].mean(axis=1))

    def _of(self, names: Sequence[str]) -> np.ndarray:
        return self.right[..., np.isin(self.labels, list(names))]


def _detections(
    folders: Sequence[Path], summary: Mapping[str, Any], samples: int, random_seed: int
) -> PairedAp:
    """Match the detections of all folders: those of A, seed by seed, then those of B."""
    metric = {text: key for key, text in METRIC_NAMES.items()}[summary["metric"]]
    ious, metric = (COCO_IOUS, "coco101") if metric == "coco" else ((0.5,), metric)
    first, levels = read_json(folders[0] / "test.json"), []
    for folder in folders:
        truth = read_json(folder / "test.json")
        if [i["id"] for i in truth["images"]] != [i["id"] for i in first["images"]]:
            raise InputError("other test images", folder, f"those of {folders[0]}")
        ids = class_ids(truth, seen_classes(read_task(folder / "task.json")), folder / "test.json")
        rows = read_detections(folder / "predictions.json", truth, ids)
        matching = Matching(truth, rows, ids)
        levels.append([matching.match(iou) for iou in ious])

    def holding(group: Sequence[str]) -> np.ndarray:
        chosen = np.zeros(len(first["images"]), dtype=bool)
        chosen[list(images_with(first, [ids[name] for name in group]))] = True
        return chosen

    by_group = summary.get("images") == "group"
    return PairedAp(
        levels, len(first["images"]), metric, samples, random_seed, holding if by_group else None
    )


def _classifications(folders: Sequence[Path]) -> PairedAccuracy:
    """Read which images were got right; images in the order of their ids."""
    known: tuple[list[Any], list[str]] | None = None
    right = []
    for folder in folders:
        names = seen_classes(read_task(folder / "task.json"))
        truth = read_json(folder / "test.json")
        labels, predicted = read_probabilities(folder / "predictions.json", truth, names)
        images = read_json(folder / "predictions.json")["images"]
        order = sorted(range(len(images)), key=lambda k: str(images[k]))
        own = [images[k] for k in order], [labels[k] for k in order]
        known = known or own
        if known[0] != own[0]:
            raise InputError("other test images", folder, f"those of {folders[0]}")
        right.append([labels[k] == predicted[k] for k in order])
    labels = known[1] if known else []
    return PairedAccuracy(labels, np.reshape(right, (2, len(folders) // 2, len(labels))))


def as_text(comparison: Comparison) -> str:
    """Return a comparison as an aligned table; ``*`` marks intervals that leave zero out."""

    def line(name: str, row: Difference) -> list[str]:
        if row.difference is None:
            return [name, "–", "–", "–", "", ""]
        span, sure = "", False
        if row.low is not None and row.high is not None:
            span, sure = f"[{row.low:+.1f}, {row.high:+.1f}]", row.low > 0 or row.high < 0
        return [name, f"{row.a:.1f}", f"{row.b:.1f}", f"{row.difference:+.1f}", span, "*" * sure]

    head = ["", "A", "B", "A - B", f"{LEVEL:.0%} interval", ""]
    body = [line(part, row) for part, row in comparison.parts.items()]
    body += [line(f"  {name}", row) for name, row in comparison.classes.items()]
    widths = [max(len(row[k]) for row in [head, *body]) for k in range(len(head))]
    table = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *body]
    ]
    seeds = ", ".join(map(str, comparison.seeds))
    and_seeds = f", {len(comparison.seeds)} seeds" if len(comparison.seeds) > 1 else ""
    lines = [
        f"A = {comparison.a}, B = {comparison.b}: {comparison.metric} in percent, seeds {seeds}",
        *table,
        f"* the interval leaves 0 out; {comparison.images} test images" + and_seeds,
    ]
    if empty := [name for name, row in comparison.classes.items() if row.difference is None]:
        count = f"{len(empty)} of {len(comparison.classes)} classes"
        lines.append(f"{count} not scored, without test instances: {', '.join(empty)}")
    if comparison.seed_std is not None:
        lines.append(
            f"over seeds, the difference of A has a standard deviation of {comparison.seed_std:.1f}"
        )
    return "\n".join(lines) + "\n"
