"""Scoring against pycocotools: python benchmarks/scoring.py [--quick].

5,000 images x 80 classes of synthetic detections, AP50. Both start from the same lists in memory
and end with the AP of every class; they must agree.
"""

from __future__ import annotations

import contextlib
import copy
import io

import measure
import numpy as np

from clclip.evaluation.ap import average_precision
from clclip.evaluation.matching import match


def synthetic(images: int, classes: int, seed: int = 0) -> tuple[dict, list[dict]]:
    """Return ground truth and detections: shifted copies of most objects, and false ones."""
    draws = np.random.default_rng(seed)
    annotations, detections = [], []
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
    box = [round(float(v), 3) for v in (*box[:2], *np.maximum(box[2:], 1))]
    return {"image_id": image, "category_id": category, "bbox": box, "score": float(score)}


def ours(truth: dict, detections: list[dict]) -> list[float]:
    """Return the AP50 of every class by COCO's 101 points."""
    names = {category["name"]: category["id"] for category in truth["categories"]}
    found = match(truth, detections, names)
    return [
        average_precision(m.true_positive, m.object_images.size, "coco101") for m in found.values()
    ]


def theirs(truth: dict, detections: list[dict]) -> list[float]:
    """Return the same by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = copy.deepcopy(truth)
        objects.createIndex()
        evaluation = COCOeval(objects, objects.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.maxDets = [100]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return [float(values.mean()) for values in evaluation.eval["precision"][0, :, :, 0, 0].T]


def main() -> None:
    """Measure and write scoring.json."""
    chosen = measure.options(__doc__)
    images, classes = (50, 5) if chosen.quick else (5_000, 80)
    truth, detections = synthetic(images, classes)
    difference = np.abs(np.array(ours(truth, detections)) - np.array(theirs(truth, detections)))
    runs = {
        "clclip": lambda: ours(truth, detections),
        "pycocotools": lambda: theirs(truth, detections),
    }
    seconds = measure.timed(runs, chosen.rounds, warm=0)
    rows = [
        {
            "scorer": name,
            "s": measure.median(own),
            "pycocotools / it": measure.ratio(seconds["pycocotools"], own),
        }
        for name, own in seconds.items()
    ]
    sizes = {"images": images, "classes": classes, "detections": len(detections)}
    measure.write(
        "scoring", chosen, rows, **sizes, largest_difference_of_ap=float(difference.max())
    )


if __name__ == "__main__":
    main()
