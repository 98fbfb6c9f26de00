"""Which classifier suits a folder of images, by frozen features of its training images.

Five folds of the images: each is classified by models that were summed without it. Nothing is
trained and no test image is read. The tower is most of the cost, so images are looked at class by
class in turn until the time is up; the answer tells of how many.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clclip.classification.closed_form import heads
from clclip.classification.closed_form.joining import fitted_balance, fold_of, joined_logits
from clclip.classification.closed_form.learner import TEXT_SCALE
from clclip.classification.closed_form.projection import Hidden
from clclip.classification.closed_form.solver import gcv_penalty, gcv_penalty_of_rows
from clclip.classification.closed_form.sums import Sums, one_hot, unit
from clclip.classification.features.builder import feature_batches
from clclip.classification.features.layout import TEMPLATE
from clclip.classification.registry import METHODS
from clclip.core.errors import InputError

Array = np.ndarray

logger = logging.getLogger(__name__)

CANDIDATES = ("zeroshot", "ncm", "ridge", "ranpac", "gda")
FEWEST = 5  # images of a class
_LOG_SECONDS = 5.0


@dataclass(frozen=True)
class Advice:
    """The result.

    Attributes:
        classes: class names.
        images: images looked at of each class.
        all_images: how many there are.
        correct: method -> (N,) whether an image was classified rightly by cross-validation.
        labels: (N,) class of each.
        text_gain: points that the text adds to ``gda``, and its 95 % half-width.
        seconds: taken.
    """

    classes: list[str]
    images: list[int]
    all_images: int
    correct: dict[str, Array]
    labels: Array
    text_gain: tuple[float, float]
    seconds: float

    def accuracy(self, method: str) -> float:
        """Return the accuracy of a method in percent."""
        return 100 * float(self.correct[method].mean())

    def of_class(self, method: str, number: int) -> float:
        """Return the accuracy of a method on a class in percent."""
        return 100 * float(self.correct[method][self.labels == number].mean())

    @property
    def best(self) -> str:
        """The most accurate method."""
        return max(CANDIDATES, key=self.accuracy)

    def values(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        per_class = {
            name: {"images": self.images[k]}
            | {method: round(self.of_class(method, k), 2) for method in CANDIDATES}
            for k, name in enumerate(self.classes)
        }
        return {
            "images": len(self.labels),
            "all_images": self.all_images,
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
    seconds: float = 40.0,
) -> Advice:
    """Compare closed-form classifiers and zero-shot on images.

    Args:
        clip: a ``LoadedClip``.
        paths: training images.
        labels: the class of each.
        words: text of a class where its name is not one.
        size: side of the images in px; None: the tower's own.
        seconds: no further image is looked at after so long.

    Raises:
        InputError: for fewer than two classes, or a class of fewer than five images.
    """
    start = time.monotonic()
    classes = sorted(set(labels))
    counts = {name: labels.count(name) for name in classes}
    for name, count in counts.items():
        if count < FEWEST:
            what = f"class {name!r} has {count} images"
            raise InputError(what, "the training images", f"at least {FEWEST} images a class")
    if len(classes) < 2:
        raise InputError(f"{len(classes)} class", "the training images", "at least two classes")
    order = in_turn(labels)
    features = _features(clip, [paths[row] for row in order], size, seconds, FEWEST * len(classes))
    column = {name: k for k, name in enumerate(classes)}
    y = np.array([column[labels[row]] for row in order[: len(features)]])
    folds = np.array([fold_of(str(paths[row])) for row in order[: len(features)]])
    text = _text(clip, [words.get(name, name) for name in classes])
    tables = cross_validated(features, y, folds, text)
    correct = {name: table.argmax(axis=1) == y for name, table in tables.items()}
    return Advice(
        classes,
        np.bincount(y, minlength=len(classes)).tolist(),
        len(labels),
        correct,
        y,
        _gain(correct["gda_text"], correct["gda"]),
        time.monotonic() - start,
    )


def in_turn(labels: Sequence[str]) -> list[int]:
    """Return an order of images that shows every class equally often for as long as it can."""
    seen: dict[str, int] = {}
    places = []
    for row, label in enumerate(labels):
        places.append((seen.setdefault(label, 0), row))
        seen[label] += 1
    return [row for _, row in sorted(places)]


def _features(
    clip: Any, paths: Sequence[Path], size: int | None, seconds: float, fewest: int
) -> Array:
    """Return features (N, d) of the first images, as many as the time allows."""
    start, logged_at = time.monotonic(), 0.0
    parts, done = [], 0
    for part in feature_batches(clip, paths, size, False):
        parts.append(part["image"])
        done += len(part["image"])
        taken = time.monotonic() - start
        if taken - logged_at > _LOG_SECONDS:
            logged_at = taken
            logger.info("looked at %d/%d images, %.0f s", done, len(paths), taken)
        if done >= fewest and taken >= seconds:
            break
    return np.concatenate(parts)


def _text(clip: Any, names: Sequence[str]) -> Array:
    """Return unit text embeddings (K, d)."""
    from clclip.classification.seca.prompts import template_text

    text = template_text(clip.model, clip.tokenizer, list(names), TEMPLATE)
    return text.double().cpu().numpy()


def cross_validated(features: Array, labels: Array, folds: Array, text: Array) -> dict[str, Array]:
    """Return scores (N, K) of every candidate, and of ``gda_text``, by folds.

    Args:
        features: (N, d).
        labels: (N,) in 0..K-1.
        folds: (N,) each image is classified by models without its fold.
        text: (K, d) unit text embeddings.
    """
    classes, width = len(text), features.shape[1]
    plain = Hidden(0, width, 0, True)
    ranpac = METHODS["ranpac"].defining
    wide = Hidden(0, width, ranpac["hidden"], ranpac["normalise"])
    tables: dict[str, Array] = {"zeroshot": TEXT_SCALE * unit(features) @ text.T}
    for names, hidden in (
        (("ncm", "ridge", "gda"), plain(features)),
        (("ranpac",), wide(features)),
    ):
        whole = Sums.of(hidden, labels, classes)
        penalty = _penalty(hidden, labels, whole)
        for name in names:
            tables[name] = np.zeros((len(labels), classes))
        for fold in np.unique(folds):
            out = folds == fold
            sums = whole - Sums.of(hidden[out], labels[out], classes)
            for name in names:
                tables[name][out] = _head(name, sums, penalty).logits(hidden[out])
    balance = fitted_balance(tables["zeroshot"], tables["gda"], labels)
    tables["gda_text"] = joined_logits(tables["zeroshot"], tables["gda"], balance)
    return tables


def _penalty(hidden: Array, labels: Array, sums: Sums) -> float:
    """Return the penalty of the ridge, by generalised cross-validation on all images."""
    if len(hidden) < hidden.shape[1]:
        return gcv_penalty_of_rows(hidden, one_hot(labels, len(sums.counts)))
    return gcv_penalty(sums.gram, sums.cross, sums.images, sums.images)


def _head(name: str, sums: Sums, penalty: float) -> heads.Linear:
    if name == "ncm":
        return heads.nearest_mean(sums)
    return heads.discriminant(sums) if name == "gda" else heads.ridge(sums, penalty)


def _gain(one: Array, other: Array) -> tuple[float, float]:
    """Return by how many points ``one`` is right more often, paired, and the 95 % half-width."""
    difference = one.astype(float) - other
    return 100 * float(difference.mean()), 196 * float(difference.std()) / len(one) ** 0.5


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
    if gain > half:
        text += f"The names help: with the text, gda gains {gain:.1f} ± {half:.1f} points"
    else:
        text += f"The names do not help: with the text, gda gains {gain:+.1f} ± {half:.1f} points"
    return f"{text} (by the names alone {zero_shot:.1f} %, chance {chance:.1f})."


def as_text(advice: Advice) -> str:
    """Return the answer as a table for a terminal."""
    width = max(len("all"), *(len(name) for name in advice.classes))
    lines = [f"{'class':<{width}}  images  " + "  ".join(f"{m:>8}" for m in CANDIDATES)]
    for k, name in enumerate(advice.classes):
        row = "  ".join(f"{advice.of_class(method, k):8.1f}" for method in CANDIDATES)
        lines.append(f"{name:<{width}}  {advice.images[k]:6}  {row}")
    row = "  ".join(f"{advice.accuracy(method):8.1f}" for method in CANDIDATES)
    lines.append(f"{'all':<{width}}  {len(advice.labels):6}  {row}")
    half = _half_width(advice.correct[advice.best])
    looked = f"{len(advice.labels)} of {advice.all_images} training images looked at"
    lines.append(f"% of held-out images, ± {half:.1f} in all; {looked}, {advice.seconds:.0f} s")
    return "\n".join([*lines, sentences(advice)])
