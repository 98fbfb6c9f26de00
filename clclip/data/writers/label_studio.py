"""Label Studio: tasks with predictions, to be imported into a project and reviewed.

Images are served from the machine's own disk: set LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true,
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/, and add the folder as local storage. The labelling
interface is an ``Image`` called ``image`` with ``RectangleLabels`` called ``label``, as in its
template "Object Detection with Bounding Boxes". Percentages are of the turned image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clclip.core.files import write_json
from clclip.data.writers.detections import Detections

SERVED = "/data/local-files/?d="


def write_label_studio(detections: Detections, out: Path) -> None:
    """Write ``label_studio.json``."""
    write_json(out / "label_studio.json", label_studio_tasks(detections), indent=1)


def label_studio_tasks(
    detections: Detections, file_names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return tasks for Label Studio.

    Args:
        detections: the detections, their images by paths that lead to them.
        file_names: what the images are called in the data set, if that is otherwise.
    """
    tasks = []
    names = file_names or [image["file_name"] for image in detections.images]
    for image, boxes, name in zip(detections.images, detections.boxes, names, strict=True):
        results = [_result(box, image, detections.names, n) for n, box in enumerate(boxes)]
        scores = [box["score"] for box in boxes if "score" in box]
        prediction: dict[str, Any] = {"model_version": detections.maker, "result": results}
        if scores:  # the least sure first, when a project is sorted by it
            prediction["score"] = min(scores)
        path = os.path.abspath(image["file_name"]).lstrip("/")
        data = {"image": SERVED + quote(path), "file_name": name}
        tasks.append({"id": image["id"], "data": data, "predictions": [prediction]})
    return tasks


def _result(box: Any, image: Any, names: Any, number: int) -> dict[str, Any]:
    """Return one rectangle in percent of the image."""
    x, y, w, h = box["bbox"]
    width, height = image["width"], image["height"]
    entry = {
        "id": f"box{number}",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x / width,
            "y": 100 * y / height,
            "width": 100 * w / width,
            "height": 100 * h / height,
            "rotation": 0,
            "rectanglelabels": [names[box["category_id"]]],
        },
    }
    return entry | ({"score": box["score"]} if "score" in box else {})
