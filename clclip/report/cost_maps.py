"""Cost-volume maps of a few images and classes, read from the feature store without torch."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clclip.errors import InputError
from clclip.files import read_json
from clclip.report.collect import Setting
from clclip.report.gallery import embed, image_root
from clclip.task_file import features_dir, read_task, seen_classes, text_file

IMAGES, CLASSES = 3, 5


@dataclass(frozen=True)
class Maps:
    """One image and its maps: (class, data address, whether the class is in the image).

    ``low`` and ``high`` are the cosines of the darkest and the brightest cell of all its maps.
    """

    title: str
    uri: str
    low: float
    high: float
    maps: list[tuple[str, str, bool]]


def cost_maps(setting: Setting, resources: Path) -> list[Maps]:
    """Return the maps of a few test images; empty where the features were not stored.

    Raises:
        InputError: if the store, the text embeddings or an image are broken.
    """
    for experiment in setting.experiments:
        folder = experiment.task_dir(experiment.summary["tasks"][-1]["task"])
        task = read_task(folder / "task.json")
        store = features_dir(task, "test", resources)
        if store is not None and (store / "done.json").is_file():
            return _maps(task, store, read_json(folder / "test.json"), resources)
    return []


def _maps(
    task: Mapping[str, Any], store: Path, truth: Mapping[str, Any], resources: Path
) -> list[Maps]:
    """Return the maps from one store."""
    marker = read_json(store / "done.json")
    dense = np.load(store / "dense.npy", mmap_mode="r", allow_pickle=False)
    names, text = seen_classes(task), _text(text_file(task, resources))
    if len(names) != len(text) or text.shape[1] != dense.shape[1]:
        raise InputError(
            f"text of shape {text.shape}", store, f"{len(names)} rows of {dense.shape[1]}"
        )
    root, row_of = (
        image_root(task, resources),
        {image: k for k, image in enumerate(marker["images"])},
    )
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
        row = row_of[image["id"]]
        width, height = marker["extents"][row]
        cells = visible(width, height, marker["size"], marker["stride"])
        tokens = np.asarray(dense[row], dtype=np.float32)[:, : cells[1], : cells[0]]
        present = inside.get(image["id"], [])[: CLASSES - 1]
        absent = [name for name in names if name not in inside.get(image["id"], [])]
        shown = present + absent[: CLASSES - len(present)]
        volume = np.einsum("dhw,kd->khw", tokens, text[[names.index(name) for name in shown]])
        low, high = float(volume.min()), float(volume.max())
        shades = (volume - low) / max(high - low, 1e-6)
        maps = [
            (name, picture(shade), name in present)
            for name, shade in zip(shown, shades, strict=True)
        ]
        uri = embed(root / image["file_name"], image.get("exif", True))[0]
        result.append(Maps(str(image["file_name"]), uri, low, high, maps))
    return result


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
        raise InputError(f"no text embeddings ({error})", path, "a file of `clclip text`") from None


def picture(shades: np.ndarray) -> str:
    """Return (h, w) values in [0, 1] as the data address of a PNG, one pixel a cell."""
    import matplotlib
    from PIL import Image

    pixels = matplotlib.colormaps["cividis"](np.clip(shades, 0, 1), bytes=True)[..., :3]
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
