"""Cost volume and gate of a few images, class by class, read from stored files without torch."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clclip.clip.cost_volume import gate_logits
from clclip.clip.ids import text_file
from clclip.core.artifacts import Task
from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.core.task import features_dir, read_task, seen_classes
from clclip.data.index import image_root
from clclip.report.benchmark import Benchmark, Experiment
from clclip.report.plotting import load_matplotlib
from clclip.report.sections.gallery import SHOWN_SCORE, Box, View, boxes_of, embed, view

IMAGES, CLASSES = 3, 40


@dataclass(frozen=True)
class ClassMaps:
    """One class in one image: data addresses of its maps (no gate: empty), and its detections."""

    name: str
    present: bool
    cost: str
    gate: str
    boxes: list[Box]


@dataclass(frozen=True)
class Maps:
    """One image and the maps of its classes, those in the image first.

    ``low`` and ``high`` are the cosines of the darkest and the brightest cell of all its cost maps;
    ``owner`` is whose gate and detections are shown.
    """

    title: str
    uri: str
    width: int
    height: int
    low: float
    high: float
    owner: Experiment
    classes: list[ClassMaps]

    @property
    def gated(self) -> bool:
        """Whether there is a gate to show."""
        return any(one.gate for one in self.classes)


def cost_maps(benchmark: Benchmark, resources: Path) -> list[Maps]:
    """Return the maps of a few test images; empty where the features were not stored.

    The gate and the detections of a method that has one are shown, else those of the best method.

    Raises:
        InputError: if the store, the text embeddings or an image are broken.
    """
    last_tasks = []
    for experiment in benchmark.experiments:
        folder = experiment.task_dir(experiment.summary["tasks"][-1]["task"])
        last_tasks.append((experiment, folder, read_task(folder / "task.json")))
    for experiment, folder, task in sorted(
        last_tasks, key=lambda one: "gate" not in one[2]["switches"]
    ):
        store = features_dir(task, "test", resources)
        if store is not None and (store / "done.json").is_file():
            return _maps(experiment, task, store, folder, resources)
    return []


def _maps(owner: Experiment, task: Task, store: Path, folder: Path, resources: Path) -> list[Maps]:
    """Return the maps from one store."""
    marker, truth = read_json(store / "done.json"), read_json(folder / "test.json")
    dense = np.load(store / "dense.npy", mmap_mode="r", allow_pickle=False)
    names, text = seen_classes(task), _text(text_file(task, resources))
    if len(names) != len(text) or text.shape[1] != dense.shape[1]:
        raise InputError(
            f"text of shape {text.shape}", store, f"{len(names)} rows of {dense.shape[1]}"
        )
    gate, shown_view = gate_of(owner, task), _view_of(folder, truth)
    root = image_root(task, resources)
    row_of = {image: k for k, image in enumerate(marker["images"])}
    by_id = {category["id"]: category["name"] for category in truth["categories"]}
    inside: dict[Any, list[str]] = {}
    for item in truth["annotations"]:
        own = inside.setdefault(item["image_id"], [])
        if by_id[item["category_id"]] not in own and by_id[item["category_id"]] in names:
            own.append(by_id[item["category_id"]])
    images = [image for image in truth["images"] if image["id"] in row_of]
    # The richest images say most; the sort is stable, so the choice is the same every time.
    images = sorted(images, key=lambda image: -len(inside.get(image["id"], [])))[:IMAGES]
    result = []
    for image in images:
        row, present = row_of[image["id"]], inside.get(image["id"], [])
        width, height = marker["extents"][row]
        cells = visible(width, height, marker["size"], marker["stride"])
        tokens = np.asarray(dense[row], dtype=np.float32)[:, : cells[1], : cells[0]]
        shown = (present + [name for name in names if name not in present])[:CLASSES]
        volume = np.einsum("dhw,kd->khw", tokens, text[[names.index(name) for name in shown]])
        low, high = float(volume.min()), float(volume.max())
        boxes = boxes_of(shown_view, image["id"], by_id) if shown_view else []
        classes = [
            ClassMaps(
                name,
                name in present,
                picture((cost - low) / max(high - low, 1e-6)),
                picture(gate(cost)) if gate else "",
                [b for b in boxes if b.name == name and _drawn(b)],
            )
            for name, cost in zip(shown, volume, strict=True)
        ]
        uri, width, height = embed(root / image["file_name"], image.get("exif", True))
        title = str(image["file_name"])
        result.append(Maps(title, uri, width, height, low, high, owner, classes))
    return result


def _view_of(folder: Path, truth: Mapping[str, Any]) -> View | None:
    """Return the matched detections of a task, None if there are none to read."""
    try:
        return view(folder, truth)
    except InputError:
        return None


def _drawn(box: Box) -> bool:
    """Whether a box is shown: a detection of some score."""
    return box.state in ("right", "wrong") and (box.score or 0) >= SHOWN_SCORE


def gate_of(experiment: Experiment, task: Task) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the gate as a function of cost maps (h, w); None where it is not known.

    Its two numbers are learned in task 1 and then frozen. A refined volume, or a softmax against
    background prompts, needs the model itself.
    """
    from safetensors import SafetensorError, safe_open

    mode = None if task["switches"].get("refiner") else task["switches"].get("gate")
    if mode == "minmax":
        return lambda cost: (cost - cost.min()) / max(float(np.ptp(cost)), 1e-6)
    if mode != "sigmoid":
        return None
    path = experiment.task_dir(experiment.summary["tasks"][0]["task"]) / "weights.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            names = ("gate.log_slope", "gate.middle")
            log_slope, middle = (float(file.get_tensor(name)) for name in names)
    except (OSError, SafetensorError, TypeError):
        return None
    slope = math.exp(log_slope)
    return lambda cost: 1 / (1 + np.exp(-gate_logits(cost, slope, middle)))


def visible(width: int, height: int, size: int, stride: int) -> tuple[int, int]:
    """Return how many cells (across, down) of the canvas the image covers; the rest is padding."""
    scale = size / max(width, height)
    return math.ceil(width * scale / stride - 1e-6), math.ceil(height * scale / stride - 1e-6)


def _text(path: Path) -> np.ndarray:
    """Return the (K, d) text embeddings."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)["text"].astype(np.float32)
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(
            f"no text embeddings ({error})", path, "a file of `clclip embed-text`"
        ) from None


def picture(shades: np.ndarray) -> str:
    """Return (h, w) values in [0, 1] as the data address of a PNG, one pixel a cell."""
    from PIL import Image

    pixels = load_matplotlib().colormaps["cividis"](np.clip(shades, 0, 1), bytes=True)[..., :3]
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
