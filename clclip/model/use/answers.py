"""What a model says of one image: boxes or class probabilities, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from clclip.core.errors import InputError

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects detected in one image, N of them, by falling score.

    Attributes:
        boxes: (N, 4) float32, x0 y0 x1 y1 in pixels of the image as it is seen (upright).
        scores: (N,) in [0, 1], float32; float64 where they are calibrated.
        labels: (N,) int64, columns of ``model.classes``.
        names: N class names, one a box.
        width: of the image in pixels.
        height: of the image in pixels.
        path: the image's file, None if it was none.
        categories: (N,) int64, the category ids that the training data gave the classes.
    """

    boxes: Array
    scores: Array
    labels: Array
    names: list[str]
    width: int
    height: int
    path: str | None = None
    categories: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def chosen(self, keep: Array) -> Detections:
        """Return those of a mask (N,) or of indices."""
        rows = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Detections(
            self.boxes[rows],
            self.scores[rows],
            self.labels[rows],
            [self.names[row] for row in rows],
            self.width,
            self.height,
            self.path,
            self.categories[rows],
        )

    def to_coco(self, image_id: int | str = 0, first: int = 1) -> list[dict[str, Any]]:
        """Return COCO results that are COCO annotations too.

        Args:
            image_id: of the image.
            first: id of the first annotation.

        Returns:
            per box {"id", "image_id", "category_id", "bbox": [x, y, width, height], "area",
            "iscrowd", "score"}.
        """
        sides = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)
        rows = zip(sides.tolist(), self.categories.tolist(), self.scores.tolist(), strict=True)
        records = []
        for number, (box, category, score) in enumerate(rows, first):
            box = [round(value, 2) for value in box]
            records.append(
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": round(box[2] * box[3], 4),
                    "iscrowd": 0,
                    # a map is steep: what is calibrated keeps its digits, and so its order
                    "score": score if self.scores.dtype == np.float64 else round(score, 5),
                }
            )
        return records

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with the names as ``data["class_name"]``.

        Raises:
            InputError: if the package supervision is not installed.
        """
        return _supervision().Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )


def joined_answers(first: Detections, then: Detections) -> Detections:
    """Return the detections of one image, those of ``then`` behind those of ``first``."""
    if not len(then):
        return first
    return Detections(
        np.concatenate([first.boxes, then.boxes]),
        np.concatenate([first.scores, then.scores]),
        np.concatenate([first.labels, then.labels]),
        first.names + then.names,
        first.width,
        first.height,
        first.path,
        np.concatenate([first.categories, then.categories]),
    )


@dataclass(frozen=True, eq=False)
class Classification:
    """The classes of one image, K of them.

    Attributes:
        probabilities: (K,) float32, in the order of ``model.classes``; they sum to 1 unless classes
            were dropped from the model.
        labels: (K,) int64, columns of ``model.classes``, the likeliest first.
        scores: (K,) float32, their probabilities.
        names: their K names.
        path: the image's file, None if it was none.
    """

    probabilities: Array
    labels: Array
    scores: Array
    names: list[str]
    path: str | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def to_supervision(self) -> Any:
        """Return ``supervision.Classifications``.

        Raises:
            InputError: if the package supervision is not installed.
        """
        return _supervision().Classifications(class_id=self.labels, confidence=self.scores)


def _supervision() -> Any:
    """Return the package supervision."""
    try:
        return import_module("supervision")
    except ImportError:
        expected = "`pip install supervision`, or the arrays themselves"
        raise InputError("the package supervision is missing", "to_supervision", expected) from None
