"""The same test images with the detections of every method after chosen tasks."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clclip.core.files import read_json
from clclip.core.task import read_task, seen_classes
from clclip.data.images import load_rgb
from clclip.data.index import image_root
from clclip.evaluation.causes import Matched, matched, why_wrong
from clclip.evaluation.matching import Pairing
from clclip.evaluation.predictions import class_ids, read_detections
from clclip.report.benchmark import Benchmark, Experiment
from clclip.report.sections.labels import Label, placed

logger = logging.getLogger(__name__)

LONGEST_SIDE = 420
LEAST_SCORE, MOST_BOXES, SHOWN_SCORE = 0.05, 25, 0.5
MOST_TASKS = 4
LABEL_SIZE = 1 / 28  # font size of a box's label, in widths of the image
KINDS = {
    "new class": "wrong class",
    "old class": "wrong class",
    "box": "localisation",
    "duplicate": "duplicate",
    "background": "background",
}
"""Cause of a wrong detection -> kind of error that the page filters by."""


@dataclass(frozen=True)
class Box:
    """A box in pixels of the original image.

    ``state`` is right, wrong, object (which counts as missed below the shown score) or truth;
    ``kind`` says of a wrong box what is wrong about it (``KINDS``); ``at`` is where its label
    starts, None where there is no room for one.
    """

    x: float
    y: float
    w: float
    h: float
    name: str
    score: float | None
    state: str
    mistake: str = ""
    at: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """What stands beside the box."""
        detected = self.state in ("right", "wrong")
        return f"{self.name} {self.score:.2f}" if detected else self.name


@dataclass(frozen=True)
class Panel:
    """What one method did with one image after one task, and what is there (``truth``).

    ``seed`` None is the method's first.
    """

    experiment: Experiment
    task: int
    seed: int | None
    boxes: list[Box]


@dataclass(frozen=True)
class Picture:
    """One test image and its panels: a row per task, a column per method, a panel per seed.

    A cell without panels: the method has no such task.
    """

    key: str
    title: str
    uri: str
    width: int
    height: int
    classes: list[str]
    rows: list[list[list[Panel]]]


@dataclass
class View:
    """One task's predictions, matched."""

    seen: list[str]
    run: Matched

    @property
    def pairs(self) -> Pairing:
        """Which detection matched which object."""
        return self.run.pairs


def pictures(benchmark: Benchmark, resources: Path, count: int) -> list[Picture]:
    """Return ``count`` test images with their panels; nothing for classification.

    Half of the images are those on which the methods' final detections differ most, half are taken
    at equal distances from the test list, so that the choice alone does not tell the story.

    Raises:
        InputError: if the predictions or the images of an experiment cannot be read.
    """
    if not benchmark.detection or count < 1:
        return []
    shown = benchmark.experiments
    last = shown[0].task_dir(shown[0].summary["tasks"][-1]["task"])
    task = read_task(last / "task.json")
    truth = read_json(last / "test.json")
    root = image_root(task, resources)
    seeds = benchmark.shown_seeds
    views = {
        (e.name, number, seed): view(e.task_dir(number, seed), truth)
        for e in shown
        for number in steps(e)
        for seed in seeds
    }
    names = {c["id"]: c["name"] for c in truth["categories"]}
    chosen = choose(benchmark, truth, views, names, count)
    result = []
    for place, image in enumerate(chosen):
        uri, width, height = embed(root / image["file_name"], image.get("exif", True))
        own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        result.append(
            Picture(
                f"{benchmark.first['experiment']}-{place}",
                str(image["file_name"]),
                uri,
                width,
                height,
                sorted({names[a["category_id"]] for a in own}),
                _panels(benchmark, views, image["id"], names, (width, height), own),
            )
        )
    return result


Views = Mapping[tuple[str, int, int | None], View]


def _panels(
    benchmark: Benchmark,
    views: Views,
    image: Any,
    names: Mapping[Any, str],
    size: tuple[int, int],
    annotations: Sequence[Mapping[str, Any]],
) -> list[list[list[Panel]]]:
    """Return an image's panels; the upper bound's only task stands beside the others' last."""
    truth = [_box(a["bbox"], names[a["category_id"]], None, "truth") for a in annotations]
    most = max(len(steps(experiment)) for experiment in benchmark.experiments)
    columns: list[list[list[Panel]]] = []
    for e in benchmark.experiments:
        own = [
            [
                Panel(
                    e, t, s, labelled([*boxes_of(views[e.name, t, s], image, names), *truth], size)
                )
                for s in benchmark.shown_seeds
            ]
            for t in steps(e)
        ]
        columns.append([[]] * (most - len(own)) + own)
    return [list(row) for row in zip(*columns, strict=True)]


def steps(experiment: Experiment) -> list[int]:
    """Return the tasks shown: all of up to four, else the first, the last and two between."""
    tasks = [task["task"] for task in experiment.summary["tasks"]]
    if len(tasks) <= MOST_TASKS:
        return tasks
    gap = (len(tasks) - 1) / (MOST_TASKS - 1)
    return [tasks[round(k * gap)] for k in range(MOST_TASKS)]


def view(folder: Path, truth: Mapping[str, Any]) -> View:
    """Read and match one task's predictions; truth is that of the whole stream."""
    seen = seen_classes(read_task(folder / "task.json"))
    ids = class_ids(truth, seen, folder / "task.json")
    return View(seen, matched(truth, read_detections(folder / "predictions.json", truth, ids), ids))


def boxes_of(view: View, image: Any, names: Mapping[Any, str]) -> list[Box]:
    """Return an image's detections, right or wrong, and the objects of seen classes."""
    boxes: list[Box] = []
    hits: dict[int, float] = {}
    here = view.run.objects.get(image, [])
    for index in view.run.by_image.get(image, []):
        detection = view.pairs.detections[index]
        right = view.pairs.partner[index] >= 0
        if right:
            hits[int(view.pairs.partner[index])] = detection["score"]
        if detection["score"] >= LEAST_SCORE and len(boxes) < MOST_BOXES:
            name, score = names[detection["category_id"]], detection["score"]
            category = detection["category_id"]
            mistake = "" if right else KINDS[why_wrong(view.run, index, category, set(), here)]
            state = "right" if right else "wrong"
            boxes.append(_box(detection["bbox"], name, score, state, mistake))
    for index, item in enumerate(view.pairs.objects):
        if item["image_id"] == image and not view.pairs.ignored[index]:
            # The score is that of the box that finds it: below the slider's value it counts as
            # missed.
            name = names[item["category_id"]]
            boxes.append(_box(item["bbox"], name, hits.get(index, 0.0), "object"))
    return boxes


def _box(
    bbox: Sequence[float], name: str, score: float | None, state: str, mistake: str = ""
) -> Box:
    """Return a box of COCO's [x, y, width, height]."""
    x, y, width, height = bbox
    return Box(x, y, width, height, name, score, state, mistake)


def labelled(boxes: Sequence[Box], size: tuple[int, int]) -> list[Box]:
    """Return the boxes with places for their labels, so that none lies over another.

    First come detections that are shown at once, the surest first, then objects that they miss,
    weaker detections, and last what is shown on demand.

    Args:
        boxes: of one image, all states.
        size: width and height of the image.
    """

    def rank(box: Box) -> float:
        score = box.score or 0.0
        if box.state in ("right", "wrong"):
            return 1 - score if score >= SHOWN_SCORE else 3 - score
        missed = box.state == "object" and score < SHOWN_SCORE
        return 1.5 if missed else 4 + (box.state == "truth")

    labels = [Label(box.label, (box.x, box.y, box.w, box.h), rank(box)) for box in boxes]
    places = placed(labels, size, LABEL_SIZE * size[0])
    return [replace(box, at=place) for box, place in zip(boxes, places, strict=True)]


def choose(
    benchmark: Benchmark,
    truth: Mapping[str, Any],
    views: Views,
    names: Mapping[Any, str],
    count: int,
) -> list[Mapping[str, Any]]:
    """Return the images to show: half by how much the final detections differ, half evenly."""
    seed = benchmark.shown_seeds[0]
    last = [views[e.name, steps(e)[-1], seed] for e in benchmark.contestants]
    hits_of = [_shown_hits(view) for view in last]
    gap: dict[Any, int] = {}
    for index, item in enumerate(last[0].pairs.objects if last else []):
        hits = sum(index in group for group in hits_of)
        gap[item["image_id"]] = gap.get(item["image_id"], 0) + (0 < hits < len(hits_of))
    holding = {a["image_id"] for a in truth["annotations"]}
    images = [image for image in truth["images"] if image["id"] in holding]
    by_gap = sorted(images, key=lambda image: -gap.get(image["id"], 0))
    chosen = by_gap[: (count + 1) // 2]
    rest = [image for image in images if image not in chosen]
    need = min(count - len(chosen), len(rest))
    return chosen + [rest[int((k + 0.5) * len(rest) / need)] for k in range(need)]


def _shown_hits(view: View) -> set[int]:
    """Return which objects a detection matches whose score is high enough to be shown."""
    return {
        int(view.pairs.partner[i])
        for i, detection in enumerate(view.pairs.detections)
        if detection["score"] >= SHOWN_SCORE
    }


def embed(path: Path, exif: bool = True) -> tuple[str, int, int]:
    """Return (data address, width, height) of an image; the picture is shrunk to at most 420 px.

    Small pictures stay PNG, so that their pixels are true; photographs become JPEG.

    Args:
        path: the image.
        exif: turn it as its EXIF orientation says.

    Raises:
        InputError: if the image is missing or broken.
    """
    image = load_rgb(path, exif)
    width, height = image.size
    small = max(width, height) <= 160
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True) if small else image.save(data, "JPEG", quality=82)
    suffix = "png" if small else "jpeg"
    return f"data:image/{suffix};base64,{base64.b64encode(data.getvalue()).decode()}", width, height


def all_classes(shown: Sequence[Picture]) -> list[str]:
    """Return the classes that occur in the pictures."""
    return sorted({name for picture in shown for name in picture.classes})
