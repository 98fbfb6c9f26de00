"""Detecting objects in images of one's own with a trained run (``clclip detect``).

``detections.json`` is a list of COCO results; ``dataset.json`` holds them as a COCO data set, which
``pycocotools.coco.COCO(file)`` and annotation tools read: ``images`` numbered from 1 in the order
given, ``categories`` with the ids of the run's own data, ``annotations`` the results.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

import clclip
from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError, nearest
from clclip.core.files import replacing, write_json
from clclip.core.names import canonical_name
from clclip.core.task import clip_dir, find_task, read_task, resources_of, seen_classes
from clclip.data.images import image_files, load_rgb
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.inputs.views import image_boxes, letterboxed
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.stages.build import load_detector
from clclip.evaluation.predictions import class_ids
from clclip.training.device import training_device

logger = logging.getLogger(__name__)

# Okabe and Ito: distinguishable with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


def detect(
    run: Path,
    images: Sequence[Path],
    out: Path,
    task: int | None = None,
    classes: Sequence[str] | None = None,
    threshold: float = 0.5,
    resources: Path | None = None,
) -> list[dict]:
    """Detect in images; write ``detections.json``, ``dataset.json`` and a drawn PNG per image.

    Args:
        run: a folder ``results/EXPERIMENT/seedN``.
        images: image files or folders of them.
        out: folder of the results.
        task: use the detector after this task; None: after the last trained one.
        classes: report only these, as ``chosen_classes`` reads them; None: all.
        threshold: lowest score reported.
        resources: folder of the run's CLIP and texts; None: ``resources`` beside its ``results``,
            else in the working directory.

    Returns:
        what detections.json holds: {"image_id", "category_id", "bbox": [x, y, width, height],
            "score", "image", "class", ...}.

    Raises:
        InputError: if the run, a class or an image is missing or wrong.
    """
    task_file = find_task(run, task)
    plan = read_task(task_file)
    if plan["kind"] != "detection":
        raise InputError("a classification run", run, "a detection run (use `clclip classify`)")
    names = seen_classes(plan)
    chosen = names if classes is None else chosen_classes(classes, names)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold}", "--threshold", "a number from 0 to 1")
    files = image_files(images)
    drawings = _drawings(files, out)
    labels = task_file.parent / "test.json"
    ids = class_ids(read_stage_file(labels, "boxes"), names, labels)
    features = plan["features"]
    resources = resources_of(run) if resources is None else resources
    source = OnlineFeatures(
        clip_dir(plan, resources),
        dict(enumerate((path, True) for path in files)),
        features["size"],
        features["dense"],
        features["taps"],
    )
    model = load_detector(task_file, resources, source.width, source.stride)
    model.to(training_device())
    keep = torch.tensor([names.index(name) for name in chosen])
    entries: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for number, (path, drawing) in enumerate(zip(files, drawings, strict=True)):
        picture = load_rgb(path)
        found = _detect_one(model, source, number, picture.size)
        shown = (found["scores"] >= threshold) & torch.isin(found["labels"], keep)
        found = {name: value[shown] for name, value in found.items()}
        entry = {"id": number + 1, "file_name": str(path)}
        entries.append(entry | {"width": picture.width, "height": picture.height})
        answers += _records(entry, found, ids, len(answers) + 1)
        _save(_draw(picture, found, names), drawing)
    dataset = {
        "info": {
            "description": f"detections of clclip {clclip.__version__}",
            "run": str(run),
            "task": plan["task"],
            "threshold": threshold,
        },
        "images": entries,
        "categories": [{"id": key, "name": name} for name, key in ids.items()],
        "annotations": answers,
    }
    write_json(out / "dataset.json", dataset, indent=1)
    write_json(out / "detections.json", answers, indent=1)
    logger.info("%d objects in %d images: %s", len(answers), len(files), out)
    return answers


def chosen_classes(given: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the classes meant by texts that are each a name, or names separated by commas.

    A text that is a name as a whole is that class, so that a name may hold a comma. Names are
    compared in their canonical spelling.

    Args:
        given: the texts.
        names: the classes of the run.

    Raises:
        InputError: if a name is empty or no class of the run, or there is none.
    """
    chosen: list[str] = []
    for text in given:
        parts = [text] if canonical_name(text) in names else text.split(",")
        chosen += [canonical_name(part) for part in parts]
    expected = f"classes of the run: {', '.join(names)}"
    for name in chosen or [""]:
        if not name:
            raise InputError("an empty class name", "--classes", expected)
        if name not in names:
            raise InputError(f"class {name!r}{nearest(name, names)}", "--classes", expected)
    return chosen


def _detect_one(
    model: torch.nn.Module, source: OnlineFeatures, number: int, size: tuple[int, int]
) -> dict[str, Tensor]:
    """Return the detections of one image, boxes in its own pixels."""
    view = letterboxed(*size, source.size)
    features = source.read([number], [view])
    extents = torch.tensor([[view.height, view.width]])
    canvas = canvas_list(1, (source.size, source.size), extents)
    device = next(model.parameters()).device
    found = model.detect(Batch(features.taps, features.dense, canvas).to(device))[0]
    found = {name: value.cpu() for name, value in found.items()}
    return {**found, "boxes": image_boxes(found["boxes"], view.scale, size)}


def _records(
    image: Mapping[str, Any], found: Mapping[str, Tensor], ids: Mapping[str, Any], first: int
) -> list[dict[str, Any]]:
    """Return one image's detections as COCO results that are COCO annotations too, from ``first``.

    Beside the keys of COCO stand "image" and "class", for who reads without a library.
    """
    names = list(ids)
    rows = zip(
        found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
    )
    records = []
    for number, ((x0, y0, x1, y1), label, score) in enumerate(rows, first):
        box = [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
        records.append(
            {
                "id": number,
                "image_id": image["id"],
                "category_id": ids[names[label]],
                "bbox": box,
                "area": round(box[2] * box[3], 4),
                "iscrowd": 0,
                "score": round(score, 5),
                "image": image["file_name"],
                "class": names[label],
            }
        )
    return records


def _draw(picture: Image.Image, found: dict[str, Tensor], names: Sequence[str]) -> Image.Image:
    """Return the image with boxes and labels, enlarged if it is too small to read them."""
    zoom = max(1, round(400 / max(picture.size)))
    drawn = picture.resize((picture.width * zoom, picture.height * zoom))
    pen = ImageDraw.Draw(drawn)
    for box, label, score in zip(
        found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
    ):
        colour = COLOURS[label % len(COLOURS)]
        x0, y0, x1, y1 = (v * zoom for v in box)
        pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=2)
        text = f"{names[label]} {score:.2f}"
        left, top, right, bottom = pen.textbbox((x0 + 2, max(0, y0 - 12)), text)
        pen.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=colour)
        pen.text((x0 + 2, max(0, y0 - 12)), text, fill="white")
    return drawn


def _drawings(files: Sequence[Path], out: Path) -> list[Path]:
    """Return where each image is drawn: two of one name are told apart by a number.

    Raises:
        InputError: if a drawing would take the place of an image that was given.
    """
    drawings: dict[Path, None] = {}
    given = {path.resolve() for path in files}
    for path in files:
        drawing, n = out / f"{path.stem}.png", 1
        while drawing in drawings:
            n += 1
            drawing = out / f"{path.stem}-{n}.png"
        if drawing.resolve() in given:
            expected = "a folder other than that of the images"
            raise InputError(f"the drawing would replace the image {drawing}", "--out", expected)
        drawings[drawing] = None
    return list(drawings)


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
