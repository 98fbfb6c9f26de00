"""faster-coco-eval behind two functions: matches of detections and objects, and AP by class.

An overlap is computed once, however many thresholds and image sets are asked about: it is most of
what an evaluation costs.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core.coco import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Pause the collector of cycles: it would walk hundreds of thousands of new lists many times.

    It took a third of an evaluation, and an evaluation makes no cycles worth collecting.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Evaluator(COCOeval_faster):
    """The library's evaluator, with VOC's difficult objects.

    What it prepared for a set of images, and every overlap, is cached for later calls.
    """

    def __init__(self, truth: COCO, results: COCO) -> None:
        super().__init__(truth, results, "bbox", print_function=logger.debug)
        self._overlaps: dict[tuple[int, int], Any] = {}
        self._prepared: list[int] | None = None

    def _prepare(self) -> None:
        if self._prepared == list(self.params.imgIds):
            return
        super()._prepare()
        self._prepared = list(self.params.imgIds)
        # COCO overwrites `ignore` by `iscrowd`; difficult objects need the former.
        for annotation in self.cocoGt.anns.values():
            annotation["ignore"] = annotation["left_out"]

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """Return the overlaps of one image and class, from the first call on."""
        if (imgId, catId) not in self._overlaps:
            self._overlaps[imgId, catId] = super().computeIoU(imgId, catId)
        return self._overlaps[imgId, catId]


class CocoEvaluation:
    """Detections against objects, both of known classes.

    Args:
        objects: annotations with ``bbox`` [x, y, w, h] in pixels; ``iscrowd`` or ``ignore`` leaves
            one out.
        detections: COCO results, with ``score``.
        place: image id -> place in the ground truth's list.
        column: category id -> place among the classes.
        max_detections: largest number per image and class.
    """

    def __init__(
        self,
        objects: Sequence[Mapping[str, Any]],
        detections: Sequence[Mapping[str, Any]],
        place: Mapping[Any, int],
        column: Mapping[Any, int],
        max_detections: int,
    ) -> None:
        self._images = list(range(1, len(place) + 1))
        with no_collection():
            self._evaluator = self._built(objects, detections, place, column)
        self._evaluator.params.maxDets = [max_detections]
        self._evaluator.params.areaRng = [[0, 1e10]]
        self._evaluator.params.areaRngLbl = ["all"]

    @staticmethod
    def _built(
        objects: Sequence[Mapping[str, Any]],
        detections: Sequence[Mapping[str, Any]],
        place: Mapping[Any, int],
        column: Mapping[Any, int],
    ) -> Evaluator:
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
                for index, d in enumerate(detections)
            ]
        }
        truth.createIndex()
        results.createIndex()
        return Evaluator(truth, results)

    def matched(self, iou: float) -> list[tuple[int, int]]:
        """Return (index of detection, index of object) of every match, ignored objects included."""
        pairs = (key.split("_", 1) for key in self._evaluate([iou], self._images)["matched"])
        return [(int(detection) - 1, int(target) - 1) for detection, target in pairs]

    def average_precision(
        self, ious: Sequence[float], images: Collection[int] | None = None
    ) -> np.ndarray:
        """Return each class's AP in [0, 1], the mean over 101 recalls and the IoUs given.

        Args:
            ious: least intersection over union of a match, one or several.
            images: places of the images to look at; None for all.

        Returns:
            (K,) in the order of the classes; NaN for a class without an object that counts.
        """
        chosen = self._images if images is None else sorted(index + 1 for index in images)
        precision = self._evaluate(ious, chosen)["precision"][:, :, :, 0, 0]  # (T, R, K)
        absent = (precision < 0).all(axis=(0, 1))
        return np.where(absent, np.nan, precision.mean(axis=(0, 1)))

    def _evaluate(self, ious: Sequence[float], images: list[int]) -> Mapping[str, Any]:
        self._evaluator.params.iouThrs = np.array(ious, dtype=np.float64)
        self._evaluator.params.imgIds = images
        with no_collection():
            self._evaluator.evaluate()
        return self._evaluator.eval


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
