"""``clclip label``: new images get the boxes of classes that a model knows, for a person to review.

New images are labelled for new classes. What they show of old ones would be trained as background;
a model that knows the old ones draws them, as suggestions with scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import clclip
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json
from clclip.data.labelled import read_labelled
from clclip.data.readers.coco import read_coco
from clclip.data.review.corrected import Corrected, corrected
from clclip.data.review.hybrid import OVERLAP, Seen, with_boxes
from clclip.data.writers.detections import Detections
from clclip.data.writers.label_studio import label_studio_tasks
from clclip.model.load import load_model
from clclip.model.use.progress import progress

if TYPE_CHECKING:  # torch is imported when the data was read and found right
    from clclip.model.use.detection import DetectionModel


def label(
    place: Path,
    data: Path,
    out: Path,
    *,
    images: Path | None = None,
    threshold: float | None = None,
    overlap: float = OVERLAP,
    task: int | None = None,
    resources: Path | None = None,
) -> dict[str, Any]:
    """Add a model's boxes to a COCO file; write it, and its tasks for Label Studio beside it.

    Args:
        place: a model folder, or ``results/EXPERIMENT/seedN``.
        data: the COCO json of the new images.
        out: the COCO json to write; ``NAME.label-studio.json`` goes beside ``NAME.json``.
        images: folder of the images; None: beside the file, or ``images`` there.
        threshold: lowest score that is suggested; None: each class's own.
        overlap: a label with so much of a box in common explains it.
        task: use a run's detector after this task; None: after the last.
        resources: folder of the tower; None: see ``load_model``.

    Returns:
        the COCO data set as written.

    Raises:
        InputError: if the model or the data is wrong; nothing is then written.
    """
    if not 0 < overlap <= 1:
        raise InputError(f"overlap {overlap:g}", "--overlap", "a number above 0, at most 1")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold}", "--threshold", "a number from 0 to 1")
    if data.suffix != ".json":
        raise InputError(f"data {data.name!r}", "--data", "a COCO json (instances of new images)")
    if out.resolve() == data.resolve():
        raise InputError("the file of the labels themselves", out, "another file to write")
    labelled = read_labelled(data, images)
    loaded = load_model(place, task=task, resources=resources, kind="detection")
    model = cast("DetectionModel", loaded)
    numbers, paths = list(labelled.paths), list(labelled.paths.values())
    seen = {}
    for n, every in progress(model.candidates(paths), len(paths), "label"):
        detections = model.reported(every, threshold)
        sides = np.concatenate(
            [detections.boxes[:, :2], detections.boxes[:, 2:] - detections.boxes[:, :2]], axis=1
        )
        boxes, scores = sides.tolist(), detections.scores.tolist()
        seen[numbers[n]] = Seen(
            detections.names, scores, boxes, detections.width, detections.height
        )
    made = with_boxes(read_json(data), seen, overlap)
    maker = f"clclip {clclip.__version__}"
    info = made.get("info")
    made["info"] = {
        **(info if isinstance(info, dict) else {}),
        "labelled_by": maker,
        "model": str(place),
    }
    _write(made, {n: str(path) for n, path in labelled.paths.items()}, out, maker)
    return made


def _write(made: dict[str, Any], paths: dict[int, str], out: Path, maker: str) -> None:
    """Write the COCO file, and the tasks for Label Studio with the images' real places."""
    placed = [{**image, "file_name": paths[image["id"]]} for image in made["images"]]
    detections = Detections.of({**made, "images": placed}, maker)
    tasks = label_studio_tasks(detections, [image["file_name"] for image in made["images"]])
    write_json(out.with_suffix(".label-studio.json"), tasks, indent=1)
    write_json(out, made, indent=1)


def read_back(data: Path, reviewed: Path, out: Path) -> Corrected:
    """Write a COCO file whose boxes are those that a person left.

    Args:
        data: the COCO json that ``label`` wrote.
        reviewed: Label Studio's export of it, or a COCO file that another tool wrote.
        out: the COCO json to write.

    Raises:
        InputError: if a file is wrong; nothing is then written.
    """
    dataset = read_json(data)
    if not isinstance(dataset, dict):
        raise InputError("no COCO data set", data, "the file that `clclip label` wrote")
    read_coco(data, data.parent)  # its fields are checked
    result = corrected(dataset, reviewed)
    write_json(out, result.dataset, indent=1)
    return result
