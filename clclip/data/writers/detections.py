"""Detections as the writers take them: a COCO data set, taken apart."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Detections:
    """What is written: a COCO data set, taken apart.

    Attributes:
        images: {"id", "file_name", "width", "height"} each.
        stems: by image, a name for its file that no other image has.
        boxes: by image, its annotations: "category_id", "bbox" [x, y, width, height] px and, of
            detections, "score".
        names: category id -> class name, in order.
        maker: who made it, for formats that say so.
    """

    images: Sequence[Mapping[str, Any]]
    stems: Sequence[str]
    boxes: Sequence[Sequence[Mapping[str, Any]]]
    names: Mapping[int, str]
    maker: str

    @classmethod
    def of(cls, dataset: Mapping[str, Any], maker: str) -> Detections:
        """Take a COCO data set apart."""
        images = dataset["images"]
        by_image: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in images}
        for box in dataset["annotations"]:
            by_image[box["image_id"]].append(box)
        names = {category["id"]: category["name"] for category in dataset["categories"]}
        stems = own_stems([image["file_name"] for image in images])
        return cls(images, stems, [by_image[image["id"]] for image in images], names, maker)


def own_stems(file_names: Sequence[str]) -> list[str]:
    """Return a name without suffix for each file; two of one name get a number."""
    taken: set[str] = set()
    stems = []
    for name in file_names:
        stem = wanted = os.path.splitext(os.path.basename(name))[0] or "image"
        count = 1
        while stem in taken:
            count += 1
            stem = f"{wanted}-{count}"
        taken.add(stem)
        stems.append(stem)
    return stems
