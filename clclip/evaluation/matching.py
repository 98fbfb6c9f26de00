"""Which detection finds which object: the COCO matching rule, run by faster-coco-eval.

The rule, per image and class: detections by falling score (at most 100), each takes the free
object of highest IoU at or above the threshold; objects marked crowd or ignore (VOC "difficult")
are taken only if nothing else fits, and a detection on one counts neither as right nor as wrong.
A crowd takes any number of detections, a difficult object one: a second box on it counts as wrong,
as in COCO's evaluator (the VOC devkit leaves it out).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clclip.evaluation.coco_backend import CocoEvaluation

MAX_DETECTIONS = 100


@dataclass(frozen=True)
class ClassMatches:
    """The detections and objects of one class.

    Attributes:
        scores: (N,) falling; detections on ignored objects are left out. Equal scores keep the
            order of the images in the ground truth, then of the detections in the file.
        true_positive: (N,) bool.
        images: (N,) the image's place in the ground truth's list.
        object_images: (M,) the same for every object that counts.
    """

    scores: np.ndarray
    true_positive: np.ndarray
    images: np.ndarray
    object_images: np.ndarray

    def within(self, images: Collection[int]) -> ClassMatches:
        """Return the part on some images: matching never crosses images, so it stays valid."""
        chosen = np.fromiter(images, dtype=np.int64, count=len(images))
        keep = np.isin(self.images, chosen)
        return ClassMatches(
            self.scores[keep],
            self.true_positive[keep],
            self.images[keep],
            self.object_images[np.isin(self.object_images, chosen)],
        )


@dataclass(frozen=True)
class Pairing:
    """Detections and objects of all classes, and their matches.

    Attributes:
        objects: annotations of the classes asked for.
        ignored: (M,) bool, crowd or difficult objects.
        detections: those that count, by falling score (then image, then place in the file): those
            beyond the limit per image and class, and those on ignored objects, are left out.
        partner: (N,) index of the object that a detection matched, -1 for none.
    """

    objects: list[Mapping[str, Any]]
    ignored: np.ndarray
    detections: list[Mapping[str, Any]]
    partner: np.ndarray


class Matching:
    """Detections and objects of the same classes, matched at any IoU; overlaps are computed once.

    Args:
        ground_truth: a COCO data set: images, and annotations with ``bbox`` [x, y, w, h] in pixels.
        detections: COCO results with the data set's own image and category ids.
        classes: name -> category id; everything of other categories is left out.
        max_detections: largest number per image and class, as the COCO evaluator does.
    """

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        detections: Sequence[Mapping[str, Any]],
        classes: Mapping[str, int],
        max_detections: int = MAX_DETECTIONS,
    ) -> None:
        self.classes = classes
        place = {image["id"]: index for index, image in enumerate(ground_truth["images"])}
        column = {category: index for index, category in enumerate(classes.values())}
        objects = [a for a in ground_truth["annotations"] if a["category_id"] in column]
        counted = [d for d in detections if d["category_id"] in column]
        self._objects, self._detections = objects, counted
        self._scores = np.array([d["score"] for d in counted], dtype=np.float64)
        self._images, self._labels = _places(counted, place, column)
        flags = [bool(a.get("ignore") or a.get("iscrowd")) for a in objects]
        self._ignored = np.array(flags, dtype=bool)
        at, of = _places(objects, place, column)
        self._object_images, self._object_labels = at[~self._ignored], of[~self._ignored]
        # Falling score, then image, then file order: lexsort is stable, its last key is the first
        # to sort by.
        order = np.lexsort((self._images, -self._scores))
        self._order = order[_ranks(self._images, self._labels, order) < max_detections]
        self._evaluation: CocoEvaluation | None = None
        if objects and counted:
            from clclip.evaluation.coco_backend import CocoEvaluation

            self._evaluation = CocoEvaluation(objects, counted, place, column, max_detections)

    def pair(self, iou: float = 0.5) -> Pairing:
        """Return the matches; ``iou`` is the least intersection over union of a match."""
        order, partner = self._ranked(iou)
        ranked = [self._detections[k] for k in order]
        return Pairing(self._objects, self._ignored, ranked, partner)

    def match(self, iou: float = 0.5) -> dict[str, ClassMatches]:
        """Match as ``pair`` does, and return the ranked list of each class."""
        order, partner = self._ranked(iou)
        scores, images, labels = (a[order] for a in (self._scores, self._images, self._labels))
        matches = {}
        for index, name in enumerate(self.classes):
            own = labels == index
            objects = self._object_images[self._object_labels == index]
            matches[name] = ClassMatches(scores[own], partner[own] >= 0, images[own], objects)
        return matches

    def _ranked(self, iou: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the detections that count, in rank order, and the object of each (-1: none)."""
        partner = np.full(len(self._detections), -1, dtype=np.int64)
        for detection, target in self._evaluation.matched(iou) if self._evaluation else ():
            partner[detection] = target
        order = self._order
        if self._objects:
            order = order[~((partner[order] >= 0) & self._ignored[partner[order]])]
        return order, partner[order]

    def average_precision(
        self, ious: Sequence[float], images: Collection[int] | None = None
    ) -> dict[str, float | None]:
        """Return each class's AP over 101 recalls, the mean over ``ious``, from one evaluation.

        Args:
            ious: least intersections over union of a match.
            images: places of the images to look at; None for all.

        Returns:
            name -> AP in [0, 1]; None for a class without an object that counts.
        """
        if self._evaluation is None:
            chosen = slice(None) if images is None else np.isin(self._object_images, list(images))
            held = set(self._object_labels[chosen].tolist())
            return {name: 0.0 if k in held else None for k, name in enumerate(self.classes)}
        values = self._evaluation.average_precision(ious, images)
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(self.classes, values, strict=True)
        }


def match(
    ground_truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    classes: Mapping[str, int],
    iou: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, ClassMatches]:
    """Return the ranked list of each class at one IoU; arguments as in ``Matching``."""
    return Matching(ground_truth, detections, classes, max_detections).match(iou)


def _places(
    items: Sequence[Mapping[str, Any]], place: Mapping[Any, int], column: Mapping[Any, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the images and classes of annotations or results, (N,) each."""
    images = np.array([place[item["image_id"]] for item in items], dtype=np.int64)
    labels = np.array([column[item["category_id"]] for item in items], dtype=np.int64)
    return images, labels


def _ranks(images: np.ndarray, labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return, along ``order``, each detection's rank within its image and class (0 = best)."""
    key = images[order] * (labels.max(initial=0) + 1) + labels[order]
    by_key = np.argsort(key, kind="stable")
    ranks = np.empty(order.size, dtype=np.int64)
    first = np.flatnonzero(np.diff(key[by_key], prepend=-1))
    starts = np.repeat(first, np.diff(np.append(first, order.size)))
    ranks[by_key] = np.arange(order.size) - starts
    return ranks
