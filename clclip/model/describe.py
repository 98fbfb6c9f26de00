"""The card of a trained run: what its task files, scores and CLIP say, gathered; torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.clip.ids import text_file
from clclip.clip.prompts import BACKGROUND_PROMPTS, TEMPLATES
from clclip.core.artifacts import Clip, Task, read_clip, read_stage_file
from clclip.core.files import read_json
from clclip.core.task import clip_dir, current_classes, has_boxes, previous_classes, seen_classes
from clclip.evaluation.aggregate import versions
from clclip.evaluation.predictions import class_ids
from clclip.model.card import CALIBRATION, FORMAT
from clclip.model.kinds import KINDS


def describe_run(task_files: Sequence[Path], resources: Path, memory: str) -> dict[str, Any]:
    """Return the card of a trained run, without digests of files.

    Args:
        task_files: task.json of tasks 1..t.
        resources: folder of the run's CLIP.
        memory: "none", "left out" or "included".

    Raises:
        InputError: if a file of the run is missing or damaged.
    """
    plans = [read_json(path) for path in task_files]
    last, folder = plans[-1], task_files[-1].parent
    hidden = set(last.get("hidden", ()))
    seen = seen_classes(last)
    clip = read_clip(clip_dir(last, resources))
    scores = folder / "scores.json"
    card = {
        "format": FORMAT,
        "kind": last["kind"],
        "method": last["method"],
        "seed": last["seed"],
        "classes": [name for name in seen if name not in hidden],
        "categories": categories(last, folder),
        "parts": [
            part(plan, path.parent, last) for plan, path in zip(plans, task_files, strict=True)
        ],
        "clip": {key: clip.get(key) for key in ("id", "model", "tag", "sha256", "embed_dim")},
        "preprocessing": preprocessing(last, clip),
        "scores": read_json(scores) if scores.is_file() else None,
        "memory": memory,
        "versions": versions(),
    }
    return card | ({"text": texts(last)} if KINDS[last["kind"]].dense else {})


def categories(task: Task, folder: Path) -> list[dict[str, Any]]:
    """Return the category ids of a detector's reported classes; none for a classifier.

    Classes of the model that the stream started from keep the ids that its card has, whatever the
    data of later tasks says. A new class has the data's id, or a free one where that is taken.
    """
    if not has_boxes(task):
        return []
    hidden, labels = set(task.get("hidden", ())), folder / "test.json"
    names = [name for name in seen_classes(task) if name not in hidden]
    ids = _ids_of_start(task, folder)
    if not labels.is_file():
        order = {name: number for number, name in enumerate(names, 1)}
        known = ids if ids.keys() >= set(names) else order
        return [{"id": known[name], "name": name} for name in names]
    own = class_ids(read_stage_file(labels, "boxes"), names, labels)
    # task by task, so that a later one changes no id of an earlier one
    for group in task["groups"]:
        new = {name: own[name] for name in group if name in own and name not in ids}
        ids |= free_ids(ids, new)
    return [{"id": ids[name], "name": name} for name in names]


def _ids_of_start(task: Task, folder: Path) -> dict[str, int]:
    """Return class -> category id of the model whose parts lie beside a task.

    Empty where there is none, where it is another than the task goes on from, and where start.json
    is of an older version.
    """
    path = folder.parent / "start.json"
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict):
        return {}
    # its own parts come without labels, and a task file of theirs may name an older model
    if (folder / "test.json").is_file() and content.get("model") != task.get("start"):
        return {}
    return {entry["name"]: entry["id"] for entry in content.get("categories", ())}


def free_ids(taken: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Return new names -> their ids; those that are taken give way to free ones behind all."""
    result: dict[str, int] = {}
    used = set(taken.values())
    free = 1 + max([*used, *new.values()], default=0)
    for name, number in new.items():
        if number in used:
            number, free = free, free + 1
        result[name] = number
    return result


def part(plan: Task, folder: Path, last: Task) -> dict[str, Any]:
    """Return what the card says of one task."""
    origins = last.get("origins") or [1] * len(last["groups"])
    own, origin = current_classes(plan), origins[plan["task"] - 1]
    start = sum(map(len, last["groups"][: origin - 1]))
    hidden = [name for name in own if name in last.get("hidden", ())]
    entry = {
        "task": plan["task"],
        "folder": f"task{plan['task']}",
        "classes": [name for name in own if name not in hidden],
        "hidden": hidden,
        "origin": origin,
        "competitors": previous_classes(plan)[start:],
        "data": {**plan["data"], "counts": _counts(folder / "train.json")},
        "training": plan["training"],
        "switches": plan["switches"],
    }
    entry |= {key: plan[key] for key in ("start",) if key in plan}
    calibration = folder / CALIBRATION
    return entry | (
        {"thresholds": read_json(calibration).get("thresholds", {})}
        if calibration.is_file()
        else {}
    )


def _counts(labels: Path) -> dict[str, int] | None:
    """Return how many objects or images each class was trained on, where the split is there."""
    return read_json(labels).get("info", {}).get("counts") if labels.is_file() else None


def preprocessing(task: Task, clip: Clip) -> dict[str, Any]:
    """Return how an image becomes what the tower sees."""
    pixels = {"mean": clip["mean"], "std": clip["std"], "range": "0..1, RGB, upright by EXIF"}
    if has_boxes(task):
        features = task["features"]
        layout = "longer side to the canvas, bilinear antialiased, top left, zeros beyond"
        return {
            "canvas": features["size"],
            "layout": layout,
            "patch": clip["patch"],
            "dense": features["dense"],
            "taps": features["taps"],
            **pixels,
        }
    size = task["training"].get("image_size") or clip["image_size"]
    return {"size": size, "layout": "as open_clip prepares images for the tower", **pixels}


def texts(task: Task) -> dict[str, Any]:
    """Return where the text vectors lie, and what they are of."""
    return {
        "file": text_file(task, Path()).as_posix(),
        "names": {name: task["text"].get(name, name) for name in seen_classes(task)},
        "templates": list(TEMPLATES),
        "background": list(BACKGROUND_PROMPTS),
    }
