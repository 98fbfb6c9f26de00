"""Which detection finds which object: the COCO matching rule, run by faster-coco-eval.

The rule, per image and class: detections by falling score (at most 100), each takes the free
object of highest IoU at or above the threshold; objects marked crowd or ignore (VOC "difficult")
are taken only if nothing else fits, and a detection on one counts neither as right nor as wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

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
    """Detections and objects of all classes, and who found whom.

    Attributes:
        objects: annotations of the classes asked for.
        ignored: (M,) bool, crowd or difficult objects.
        found: detections that count, by falling score (then image, then place in the file): those
            beyond the limit per image and class, and those on ignored objects, are left out.
        partner: (N,) index of the object that a detection found, -1 for none.
    """

    objects: list[Mapping[str, Any]]
    ignored: np.ndarray
    found: list[Mapping[str, Any]]
    partner: np.ndarray


def pair(
    ground_truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    classes: Mapping[str, int],
    iou: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
) -> Pairing:
    """Match detections to objects of the same class.

    Args:
        ground_truth: a COCO data set: images, and annotations with ``bbox`` [x, y, w, h] in pixels.
        detections: COCO results with the data set's own image and category ids.
        classes: name -> category id; everything of other categories is left out.
        iou: least intersection over union of a match.
        max_detections: kept per image and class, as the COCO evaluator does.
    """
    place = {image["id"]: index for index, image in enumerate(ground_truth["images"])}
    column = {category: index for index, category in enumerate(classes.values())}
    objects = [a for a in ground_truth["annotations"] if a["category_id"] in column]
    found = [d for d in detections if d["category_id"] in column]
    partner = np.full(len(found), -1, dtype=np.int64)
    for detection, target in _run(objects, found, place, column, iou, max_detections):
        partner[detection] = target
    ignored = np.array([bool(a.get("ignore") or a.get("iscrowd")) for a in objects], dtype=bool)
    scores = np.array([d["score"] for d in found], dtype=np.float64)
    images = np.array([place[d["image_id"]] for d in found], dtype=np.int64)
    labels = np.array([column[d["category_id"]] for d in found], dtype=np.int64)
    # Falling score, then image, then file order: lexsort is stable, its last key is the first to
    # sort by.
    order = np.lexsort((images, -scores))
    order = order[_ranks(images, labels, order) < max_detections]
    if objects:
        order = order[~((partner[order] >= 0) & ignored[partner[order]])]
    return Pairing(objects, ignored, [found[k] for k in order], partner[order])


def match(
    ground_truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    classes: Mapping[str, int],
    iou: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, ClassMatches]:
    """Match as ``pair`` does, and return the ranked list of each class."""
    place = {image["id"]: index for index, image in enumerate(ground_truth["images"])}
    pairs = pair(ground_truth, detections, classes, iou, max_detections)
    scores = np.array([d["score"] for d in pairs.found], dtype=np.float64)
    images = np.array([place[d["image_id"]] for d in pairs.found], dtype=np.int64)
    labels = np.array([d["category_id"] for d in pairs.found])
    counted = [a for a, ignored in zip(pairs.objects, pairs.ignored, strict=True) if not ignored]
    matches = {}
    for name, category in classes.items():
        own = labels == category if labels.size else np.zeros(0, dtype=bool)
        objects = [place[a["image_id"]] for a in counted if a["category_id"] == category]
        matches[name] = ClassMatches(
            scores[own], pairs.partner[own] >= 0, images[own], np.array(objects, dtype=np.int64)
        )
    return matches


def _ranks(images: np.ndarray, labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return, along ``order``, each detection's rank within its image and class (0 = best)."""
    key = images[order] * (labels.max(initial=0) + 1) + labels[order]
    by_key = np.argsort(key, kind="stable")
    ranks = np.empty(order.size, dtype=np.int64)
    first = np.flatnonzero(np.diff(key[by_key], prepend=-1))
    starts = np.repeat(first, np.diff(np.append(first, order.size)))
    ranks[by_key] = np.arange(order.size) - starts
    return ranks


def _run(
    objects: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    place: Mapping[Any, int],
    column: Mapping[Any, int],
    iou: float,
    max_detections: int,
) -> list[tuple[int, int]]:
    """Return (index of detection, index of object) of every match, ignored objects included."""
    if not objects or not found:
        return []
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    class Evaluator(COCOeval_faster):
        """COCO overwrites ``ignore`` by ``iscrowd``; VOC's difficult objects need the former."""

        def _prepare(self) -> None:
            super()._prepare()
            for annotation in self.cocoGt.anns.values():
                annotation["ignore"] = annotation["left_out"]

    # Ids from 1, in order: the evaluator takes 0 for "no match", and only whole numbers.
    frame = {
        "images": [{"id": index + 1} for index in place.values()],
        "categories": [{"id": index + 1, "name": str(index)} for index in column.values()],
    }
    truth, results = COCO(), COCO()
    truth.dataset = frame | {
        "annotations": [
            _plain(a, index, place, column)
            | {
                "iscrowd": int(bool(a.get("iscrowd", 0))),
                "left_out": int(bool(a.get("iscrowd", 0) or a.get("ignore", 0))),
            }
            for index, a in enumerate(objects)
        ]
    }
    results.dataset = frame | {
        "annotations": [
            _plain(d, index, place, column) | {"score": float(d["score"]), "iscrowd": 0}
            for index, d in enumerate(found)
        ]
    }
    truth.createIndex()
    results.createIndex()
    evaluator = Evaluator(truth, results, "bbox", print_function=logger.debug)
    evaluator.params.iouThrs = np.array([iou])
    evaluator.params.maxDets = [max_detections]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluator.evaluate()
    pairs = (key.split("_", 1) for key in evaluator.eval["matched"])
    return [(int(detection) - 1, int(target) - 1) for detection, target in pairs]


def _plain(
    item: Mapping[str, Any], index: int, place: Mapping[Any, int], column: Mapping[Any, int]
) -> dict[str, Any]:
    """Return the fields that the evaluator reads, with its own ids."""
    box = [float(value) for value in item["bbox"]]
    return {
        "id": index + 1,
        "image_id": place[item["image_id"]] + 1,
        "category_id": column[item["category_id"]] + 1,
        "bbox": box,
        "area": box[2] * box[3],
    }
