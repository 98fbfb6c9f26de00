"""A COCO data set with boxes added where no label of it explains what a model sees.

New images are labelled for new classes; what they show of old ones would be trained as background.
An added box carries ``"score"`` and ``"origin": "model"``: a person's labels carry neither.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clclip.core.names import canonical_name

OVERLAP = 0.5


@dataclass(frozen=True)
class Seen:
    """What a model sees on one image: class names, scores, boxes [x, y, width, height] in px."""

    names: Sequence[str]
    scores: Sequence[float]
    boxes: Sequence[Sequence[float]]
    width: int
    height: int


def with_boxes(
    dataset: Mapping[str, Any], seen: Mapping[int, Seen], overlap: float = OVERLAP
) -> dict[str, Any]:
    """Return a COCO data set with the boxes added that none of its labels explains.

    A label of whatever class explains a box that it overlaps by ``overlap`` (intersection over
    union; with a crowd, over the box's own area). A class is the labels' category of the same
    canonical name, however they spell it.

    Args:
        dataset: images, annotations and categories; it is not changed.
        seen: image id -> what a model sees there.
        overlap: from which on a label explains a box.
    """
    made = copy.deepcopy(dict(dataset))
    ids = {canonical_name(category["name"]): category["id"] for category in made["categories"]}
    labels: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in dataset["annotations"]:
        labels.setdefault(annotation["image_id"], []).append(annotation)
    number = max((a["id"] for a in dataset["annotations"]), default=0)
    for image in made["images"]:
        detections = seen.get(image["id"])
        if detections is None:
            continue
        image["width"], image["height"] = detections.width, detections.height
        mine = labels.get(image["id"], [])
        for name, score, box in zip(
            detections.names, detections.scores, detections.boxes, strict=True
        ):
            if any(_overlap(box, label) >= overlap for label in mine):
                continue
            name = canonical_name(name)
            if name not in ids:
                ids[name] = max([0, *ids.values()]) + 1
                made["categories"].append({"id": ids[name], "name": name})
            number += 1
            rounded = [round(float(value), 2) for value in box]
            made["annotations"].append(
                {
                    "id": number,
                    "image_id": image["id"],
                    "category_id": ids[name],
                    "bbox": rounded,
                    "area": round(rounded[2] * rounded[3], 4),
                    "iscrowd": 0,
                    "score": round(float(score), 5),
                    "origin": "model",
                }
            )
    return made


def _overlap(box: Sequence[float], label: Mapping[str, Any]) -> float:
    """Return how far a label covers a box, from 0 to 1."""
    x, y, w, h = box
    left, top, width, height = label["bbox"]
    across = min(x + w, left + width) - max(x, left)
    down = min(y + h, top + height) - max(y, top)
    if across <= 0 or down <= 0:
        return 0.0
    common = across * down
    whole = w * h if label.get("iscrowd") else w * h + width * height - common
    return common / whole if whole > 0 else 0.0
