"""Detections on labelled images, each right or wrong: what a calibration is fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clclip.evaluation.matching import Matching


@dataclass(frozen=True)
class Rows:
    """Detections on images that training did not see.

    Attributes:
        names: (N,) the class that each names.
        scores: (N,) in [0, 1].
        right: (N,) whether each matched an object.
        objects: class -> number of its objects.
        images: how many images were looked at.
    """

    names: Sequence[str]
    scores: Sequence[float]
    right: Sequence[bool]
    objects: Mapping[str, int]
    images: int


def rows_of(truth: dict[str, Any], results: list[dict[str, Any]], ids: dict[str, int]) -> Rows:
    """Return detections of the classes ``ids``, each right or wrong by the labels of ``truth``.

    Args:
        truth: a COCO data set.
        results: COCO results; those of other categories are left out.
        ids: class -> category id.
    """
    pairs = Matching(truth, results, ids).pair()
    name_of = {number: name for name, number in ids.items()}
    objects = dict.fromkeys(ids, 0)
    for box in truth["annotations"]:
        if box["category_id"] in name_of and not (box.get("iscrowd") or box.get("ignore")):
            objects[name_of[box["category_id"]]] += 1
    return Rows(
        [name_of[detection["category_id"]] for detection in pairs.detections],
        [detection["score"] for detection in pairs.detections],
        [bool(partner >= 0) for partner in pairs.partner],
        objects,
        len(truth["images"]),
    )
