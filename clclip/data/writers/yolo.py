"""YOLO labels: a text file per image, and a ``data.yaml`` that names the classes.

Five numbers a line, as tools that train on them ask for: scores stand in detections.json. An image
without objects gets an empty file. Put the images into ``images`` beside ``labels`` to train.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from clclip.core.files import write_text
from clclip.data.writers.detections import Detections


def write_yolo(detections: Detections, out: Path) -> None:
    """Write ``yolo/data.yaml`` and ``yolo/labels/*.txt``."""
    index = {number: k for k, number in enumerate(detections.names)}
    for image, stem, boxes in zip(
        detections.images, detections.stems, detections.boxes, strict=True
    ):
        width, height = image["width"], image["height"]
        lines = []
        for box in boxes:
            x, y, w, h = box["bbox"]
            numbers = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
            fields = " ".join(f"{min(max(value, 0.0), 1.0):.6f}" for value in numbers)
            lines.append(f"{index[box['category_id']]} {fields}\n")
        write_text(out / "yolo" / "labels" / f"{stem}.txt", "".join(lines))
    declared = {"path": ".", "train": "images", "val": "images", "nc": len(index)}
    names = dict(enumerate(detections.names.values()))
    text = yaml.safe_dump(declared | {"names": names}, allow_unicode=True, sort_keys=False)
    write_text(out / "yolo" / "data.yaml", text)
