"""Scoring against pycocotools: python benchmarks/scoring.py [--quick].

5,000 images x 80 classes of synthetic detections, AP50 alone and, as ``clclip score`` does, AP50
and AP[.50:.95]. Both start from the same lists in memory and end with the AP of every class; they
must agree.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io

import measure
import numpy as np

from clclip.evaluation.ap import COCO_IOUS, average_precision
from clclip.evaluation.matching import Matching


def synthetic(images: int, classes: int, seed: int = 0) -> tuple[dict, list[dict]]:
    """Return ground truth and detections: shifted copies of most objects, and false ones."""
    draws = np.random.default_rng(seed)
    annotations: list[dict] = []
    detections: list[dict] = []
    for image in range(1, images + 1):
        for _ in range(int(draws.integers(3, 12))):
            x, y, w, h = *draws.uniform(0, 400, 2), *draws.uniform(20, 200, 2)
            category = int(draws.integers(1, classes + 1))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": category}
                | {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            )
            if draws.random() < 0.8:
                box = np.array([x, y, w, h]) + draws.normal(0, 12, 4)
                detections.append(_found(image, category, box, draws.beta(4, 2)))
        for _ in range(20):
            box = np.array([*draws.uniform(0, 400, 2), *draws.uniform(20, 200, 2)])
            category = int(draws.integers(1, classes + 1))
            detections.append(_found(image, category, box, draws.beta(1, 5)))
    truth = {
        "images": [{"id": k, "width": 640, "height": 640} for k in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, classes + 1)],
    }
    return truth, detections


def _found(image: int, category: int, box: np.ndarray, score: float) -> dict:
    rounded = [round(float(v), 3) for v in (*box[:2], *np.maximum(box[2:], 1))]
    return {"image_id": image, "category_id": category, "bbox": rounded, "score": float(score)}


def ours(truth: dict, detections: list[dict], all_overlaps: bool) -> np.ndarray:
    """Return the AP50 of every class by COCO's 101 points, (1, K), and AP[.50:.95] below it."""
    names = {category["name"]: category["id"] for category in truth["categories"]}
    matching = Matching(truth, detections, names)
    rows = [
        [
            average_precision(m.true_positive, m.object_images.size, "coco101")
            for m in matching.match().values()
        ]
    ]
    if all_overlaps:
        rows.append(list(matching.average_precision(COCO_IOUS).values()))
    return np.array(rows)


def theirs(truth: dict, detections: list[dict], all_overlaps: bool) -> np.ndarray:
    """Return the same by pycocotools, which needs one evaluation for both."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = copy.deepcopy(truth)
        objects.createIndex()
        evaluation = COCOeval(objects, objects.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.params.iouThrs = np.array(COCO_IOUS if all_overlaps else [0.5])
        evaluation.params.maxDets = [100]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # (overlaps, recalls, classes)
    rows = [precision[0].mean(axis=0)]
    return np.array([*rows, precision.mean(axis=(0, 1))] if all_overlaps else rows)


def main() -> None:
    """Measure and write scoring.json."""
    chosen = measure.options(__doc__)
    images, classes = (50, 5) if chosen.quick else (5_000, 80)
    truth, detections = synthetic(images, classes)
    rows, difference = [], 0.0
    for metric, both in (("AP50", False), ("AP50 and AP[.50:.95]", True)):
        gap = np.abs(ours(truth, detections, both) - theirs(truth, detections, both))
        difference = max(difference, float(gap.max()))
        runs = {
            "clclip": functools.partial(ours, truth, detections, both),
            "pycocotools": functools.partial(theirs, truth, detections, both),
        }
        seconds = measure.timed(runs, chosen.rounds, warm=0)
        rows += [
            {
                "scorer": name,
                "metric": metric,
                "s": measure.median(own),
                "pycocotools / it": measure.ratio(seconds["pycocotools"], own),
            }
            for name, own in seconds.items()
        ]
    sizes = {"images": images, "classes": classes, "detections": len(detections)}
    measure.write("scoring", chosen, rows, **sizes, largest_difference_of_ap=difference)


if __name__ == "__main__":
    main()
