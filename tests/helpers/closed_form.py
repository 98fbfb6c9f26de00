"""What the closed-form tests are made of: features of a few classes in a store, and task files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clclip.classification.features.layout import FORMAT
from clclip.classification.registry import METHODS
from clclip.core.files import write_json

WIDTH = 12
NAMES = ["ant", "bee", "cat", "dog", "elk", "fox"]
TAPS = (2, 3)
TRAIN, TEST = 12, 5  # images a class


def draw(seed: int = 0) -> dict[str, Any]:
    """Return features of two splits: {"train": (x (N, d), labels), "test": ..., "text": (C, d)}."""
    draws = np.random.default_rng(seed)
    means = draws.standard_normal((len(NAMES), WIDTH))
    mixing = draws.standard_normal((WIDTH, WIDTH))
    found: dict[str, Any] = {}
    for split, each in (("train", TRAIN), ("test", TEST)):
        labels = np.repeat(np.arange(len(NAMES)), each)
        noise = draws.standard_normal((len(labels), WIDTH)) @ mixing * 0.4
        found[split] = (means[labels] + noise).astype(np.float32), labels
    text = means + draws.standard_normal(means.shape)
    found["text"] = (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32)
    return found


def tokens_after(tap: int, features: np.ndarray) -> np.ndarray:
    """Return what stands for pooled tokens after a block, (N, d)."""
    return np.roll(features, tap, axis=1) * np.float32(tap)


def write_store(
    resources: Path, data: dict[str, Any], mirror: bool = False, taps: Sequence[int] = ()
) -> None:
    """Write the stores of both splits, ids counting from 1 and from 1001."""
    for split, first in (("train", 1), ("test", 1001)):
        features, labels = data[split]
        folder = resources / "features" / "store" / split
        folder.mkdir(parents=True)
        arrays = {"image": features, "text": data["text"]}
        if mirror:
            arrays["mirrored"] = features[:, ::-1].copy()
        if taps:
            del arrays["image"]
            arrays |= {f"tap{tap}": tokens_after(tap, features) for tap in taps}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        marker = {
            "format": FORMAT,
            "clip": "none",
            "size": 32,
            "mirror": mirror,
            "taps": list(taps),
            "images": list(range(first, first + len(labels))),
            "names": NAMES,
            "shapes": {name: list(array.shape) for name, array in arrays.items()},
        }
        write_json(folder / "done.json", marker)


def write_stream(
    base: Path,
    method: str,
    groups: list[list[str]],
    data: dict[str, Any],
    switches: dict[str, Any] | None = None,
    text: dict[str, str] | None = None,
) -> list[Path]:
    """Write stores, splits and task files of a stream below ``base``; return the task files."""
    values = METHODS[method].given(switches or {}).model_dump()
    taps = TAPS if "blocks" in values else ()
    write_store(base / "resources", data, values.get("mirror", False), taps)
    files = []
    for number in range(1, len(groups) + 1):
        folder = base / "results" / "x" / "seed0" / f"task{number}"
        task = {
            "kind": "classification",
            "method": method,
            "seed": 0,
            "task": number,
            "groups": groups[:number],
            "text": text or {},
            "data": {"id": "data"},
            "clip": {"id": "none"},
            "training": {"image_size": 32},
            "switches": values,
            "evaluation": {},
            "features": {"id": "store", "cache": True, "size": 32},
        }
        write_json(folder / "task.json", task)
        seen = [name for group in groups[:number] for name in group]
        for split, first, names in (("train", 1, groups[number - 1]), ("test", 1001, seen)):
            images = [
                {"id": first + row, "file_name": f"{row}.png", "label": NAMES[label]}
                for row, label in enumerate(data[split][1])
                if NAMES[label] in names
            ]
            write_json(folder / f"{split}.json", {"classes": names, "images": images})
        files.append(folder / "task.json")
    return files
