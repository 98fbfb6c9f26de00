"""Which classifier suits a folder of images, by frozen features of its training images.

Five folds of the images: each is classified by models that were summed without it. Nothing is
trained and no test image is read. The tower is most of the cost, so images are looked at class by
class in turn until what is left of the time is what the folds will take, by an estimate; should it
be too low, folds are left out. The answer tells of both.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clclip.classification.closed_form.record import FOLDS, fold_of
from clclip.classification.features import builder
from clclip.classification.features.layout import TEMPLATE
from clclip.classification.tools.folds import (
    cross_validated,
    multiplications,
    seconds_of_a_product,
)
from clclip.classification.tools.time_limit import TimeLimit
from clclip.core.errors import InputError
from clclip.data.images import header, inspect

Array = np.ndarray

logger = logging.getLogger(__name__)

CANDIDATES = ("zeroshot", "ncm", "ridge", "ranpac", "gda")
SECONDS = 60.0  # that the whole may take where nothing is said
FEWEST = 5  # images of a class
_LOG_SECONDS = 5.0


@dataclass(frozen=True)
class Advice:
    """The result.

    Attributes:
        classes: class names.
        images: images looked at of each class.
        all_images: how many there are.
        folds: how many of the five there was time for.
        correct: method -> (N,) whether a held-out image was classified rightly.
        labels: (N,) class of each held-out image.
        text_gain: points that the text adds to ``gda``, and its 95 % half-width.
        seconds: taken.
        limit: seconds that were allowed.
    """

    classes: list[str]
    images: list[int]
    all_images: int
    folds: int
    correct: dict[str, Array]
    labels: Array
    text_gain: tuple[float, float]
    seconds: float
    limit: float

    def accuracy(self, method: str) -> float:
        """Return the accuracy of a method in percent."""
        return 100 * float(self.correct[method].mean())

    def of_class(self, method: str, number: int) -> float | None:
        """Return the accuracy on a class in percent, None if no image of it was held out."""
        correct = self.correct[method][self.labels == number]
        return 100 * float(correct.mean()) if len(correct) else None

    @property
    def best(self) -> str:
        """The most accurate method."""
        return max(CANDIDATES, key=self.accuracy)

    def values(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        per_class = {
            name: {"images": self.images[k]}
            | {method: _rounded(self.of_class(method, k)) for method in CANDIDATES}
            for k, name in enumerate(self.classes)
        }
        return {
            "images": sum(self.images),
            "all_images": self.all_images,
            "held_out": len(self.labels),
            "folds": self.folds,
            "left_out": left_out(self),
            "accuracy": {method: round(self.accuracy(method), 2) for method in CANDIDATES},
            "half_width": round(_half_width(self.correct[self.best]), 2),
            "per_class": per_class,
            "text_gain": [round(value, 2) for value in self.text_gain],
            "method": self.best,
            "advice": sentences(self),
            "seconds": round(self.seconds, 1),
        }


def advise(
    clip: Any,
    paths: Sequence[Path],
    labels: Sequence[str],
    words: dict[str, str],
    size: int | None = None,
    limit: TimeLimit | None = None,
) -> Advice:
    """Compare closed-form classifiers and zero-shot on images.

    Args:
        clip: a ``LoadedClip``.
        paths: training images.
        labels: the class of each.
        words: text of a class where its name is not one.
        size: side of the images in px; None: the tower's own.
        limit: bounds the whole, but for five images a class and one fold; None: a minute.

    Raises:
        InputError: for fewer than two classes, or a class of fewer than five images.
    """
    limit = limit or TimeLimit(SECONDS)
    check_enough(labels)
    classes = sorted(set(labels))
    order = in_turn(labels)
    text = _text(clip, [words.get(name, name) for name in classes])
    features = _features(clip, [paths[row] for row in order], size, limit, len(classes))
    column = {name: k for k, name in enumerate(classes)}
    y = np.array([column[labels[row]] for row in order[: len(features)]])
    folds = np.array([fold_of(str(paths[row])) for row in order[: len(features)]])
    tables, rows, done = cross_validated(features, y, folds, text, limit)
    correct = {name: table[rows].argmax(axis=1) == y[rows] for name, table in tables.items()}
    return Advice(
        classes,
        np.bincount(y, minlength=len(classes)).tolist(),
        len(labels),
        FOLDS if rows.all() else done,  # a few images may leave a fold without any
        correct,
        y[rows],
        _gain(correct["gda_text"], correct["gda"]),
        limit.taken,
        limit.seconds,
    )


def check_enough(labels: Sequence[str]) -> None:
    """Check that there are two classes, and five images of each.

    Raises:
        InputError: if not.
    """
    counts = Counter(labels)
    for name, count in sorted(counts.items()):
        if count < FEWEST:
            what = f"class {name!r} has {count} image{'s' if count > 1 else ''}"
            raise InputError(what, "the training images", f"at least {FEWEST} images a class")
    if len(counts) < 2:
        expected = "at least two classes, a folder of images for each"
        raise InputError(f"{len(counts)} class", "the training images", expected)


def check_images(paths: Sequence[Path], labels: Sequence[str]) -> None:
    """Check the headers of all images, and decode the first batch of those that are looked at.

    What is cut off later in another image shows only once that one's turn comes.

    Args:
        paths: training images.
        labels: the class of each.

    Raises:
        InputError: for the first that is no image.
    """
    for path in paths:
        header(path)
    for row in in_turn(labels)[: builder.BATCH]:
        inspect(paths[row])


def in_turn(labels: Sequence[str]) -> list[int]:
    """Return an order of images that shows every class equally often for as long as it can."""
    seen: dict[str, int] = {}
    places = []
    for row, label in enumerate(labels):
        places.append((seen.setdefault(label, 0), row))
        seen[label] += 1
    return [row for _, row in sorted(places)]


def _features(
    clip: Any, paths: Sequence[Path], size: int | None, limit: TimeLimit, classes: int
) -> Array:
    """Return features (N, d) of the first images, as many as leave time for the folds."""
    unit_seconds, begun, logged_at = seconds_of_a_product(limit.clock), limit.taken, 0.0
    parts, done = [], 0
    for part in builder.feature_batches(clip, paths, size, False):
        parts.append(part["image"])
        done += len(part["image"])
        if limit.taken - logged_at > _LOG_SECONDS:
            logged_at = limit.taken
            logger.info("looked at %d/%d images, %.0f s", done, len(paths), logged_at)
        batch = (limit.taken - begun) / len(parts)
        work = multiplications(done + builder.BATCH, part["image"].shape[1], classes)
        # images read ahead are waited for: the next batch may cost twice its time
        if done >= FEWEST * classes and limit.left < 2 * batch + unit_seconds * work:
            break
    return np.concatenate(parts)


def _text(clip: Any, names: Sequence[str]) -> Array:
    """Return unit text embeddings (K, d)."""
    from clclip.classification.seca.prompts import template_text

    text = template_text(clip.model, clip.tokenizer, list(names), TEMPLATE)
    return text.double().cpu().numpy()


def _gain(one: Array, other: Array) -> tuple[float, float]:
    """Return by how many points ``one`` is right more often, paired, and the 95 % half-width."""
    difference = one.astype(float) - other
    return 100 * float(difference.mean()), 196 * float(difference.std()) / len(one) ** 0.5


def _rounded(percent: float | None) -> float | None:
    return None if percent is None else round(percent, 2)


def _half_width(correct: Array) -> float:
    """Return the 95 % half-width of an accuracy in points."""
    return 196 * float(correct.std()) / len(correct) ** 0.5


def sentences(advice: Advice) -> str:
    """Return which method to run, and whether the names help."""
    best, chance = advice.best, 100 / len(advice.classes)
    close = []
    for name in CANDIDATES:
        if name != best:
            gain, half = _gain(advice.correct[best], advice.correct[name])
            close += [f"{name} ({advice.accuracy(name):.1f})"] if gain <= half else []
    text = f"Run `method: {best}`: {advice.accuracy(best):.1f} % of held-out images"
    text += f"; within noise of it: {', '.join(close)}. " if close else ", beyond noise. "
    gain, half = advice.text_gain
    zero_shot = advice.accuracy("zeroshot")
    if best == "zeroshot":
        text += (
            f"The names alone are enough; with the text, gda gains {gain:+.1f} ± {half:.1f} points"
        )
    elif gain > half:
        text += f"The names help: with the text, gda gains {gain:.1f} ± {half:.1f} points"
    else:
        text += f"The names do not help: with the text, gda gains {gain:+.1f} ± {half:.1f} points"
    return f"{text} (by the names alone {zero_shot:.1f} %, chance {chance:.1f})."


def left_out(advice: Advice) -> str:
    """Return what there was no time for, "" if nothing."""
    looked, parts = sum(advice.images), []
    if looked < advice.all_images:
        parts.append(
            f"{advice.all_images - looked} of {advice.all_images} images were not looked at"
        )
    if advice.folds < FOLDS:
        parts.append(
            f"{FOLDS - advice.folds} of {FOLDS} folds were not run, so the table is of "
            f"{len(advice.labels)} images"
        )
    if not parts:
        return ""
    text = f"Left out to end within {advice.limit:g} s: {' and '.join(parts)}."
    if advice.seconds > advice.limit:
        text += " Longer all the same: a tower is loaded, and five images a class are looked at."
    return text


def as_text(advice: Advice) -> str:
    """Return the answer as a table for a terminal."""
    width = max(len("all"), *(len(name) for name in advice.classes))
    lines = [f"{'class':<{width}}  images  " + "  ".join(f"{m:>8}" for m in CANDIDATES)]
    for k, name in enumerate(advice.classes):
        values = [advice.of_class(method, k) for method in CANDIDATES]
        row = "  ".join(f"{'-':>8}" if value is None else f"{value:8.1f}" for value in values)
        lines.append(f"{name:<{width}}  {advice.images[k]:6}  {row}")
    row = "  ".join(f"{advice.accuracy(method):8.1f}" for method in CANDIDATES)
    looked = sum(advice.images)
    lines.append(f"{'all':<{width}}  {looked:6}  {row}")
    half = _half_width(advice.correct[advice.best])
    looked_at = f"{looked} of {advice.all_images} training images looked at, {advice.seconds:.0f} s"
    lines.append(f"% of held-out images, ± {half:.1f} in all; {looked_at}")
    return "\n".join([*lines, *filter(None, [left_out(advice)]), sentences(advice)])
