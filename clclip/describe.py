"""``clclip describe``: what an experiment would run and need, before anything runs."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from clclip.errors import InputError
from clclip.experiments import find_experiment, read_experiment
from clclip.files import expanded, read_json
from clclip.plan import ExperimentPlan, RunPlan, add_experiment
from clclip.task_file import current_classes
from clclip.training.length import epochs_of
from clclip.validation import as_list, check_seeds

# Rough rates in images per second, of 2 CPU cores with the embedded CLIP at 128 px; a ViT-B/16 at
# 640 px on one data-centre GPU is about as fast. They serve to tell minutes from days.
TRAIN_RATE, PREDICT_RATE, FEATURE_RATE = 40.0, 40.0, 60.0


def describe(entry: str, data_root: str | None = None, seeds: str | None = None) -> dict[str, Any]:
    """Describe an experiment and check its data.

    Args:
        entry: shipped name or experiment file.
        data_root: folder that relative data roots start from.
        seeds: replaces the file's, e.g. "0,1,2".

    Returns:
        {"name", "kind", "method", "seeds", "tasks": [{"task", "classes", "images"}], "data",
        "clip", "estimate"}; "images" is None where the data is not there.

    Raises:
        InputError: if the experiment or the data that is there is wrong.
    """
    path = find_experiment(entry)
    experiment, folder = read_experiment(path)
    base = expanded(data_root).absolute() if data_root else folder
    plan = RunPlan()
    chosen = experiment.seeds if seeds is None else _seeds(seeds)
    planned = add_experiment(plan, experiment, chosen, base, path, present=False)
    data, clip = next(iter(plan.data.values())), next(iter(plan.clips.values()))
    counts = _image_counts(data)
    _check_images(data, path)
    return {
        "name": planned.name,
        "file": str(path),
        "kind": experiment.kind,
        "method": experiment.method,
        "protocol": experiment.protocol,
        "seeds": list(chosen),
        "tasks": _tasks(planned, data, path),
        "data": _data(data, counts),
        "clip": _clip(clip),
        "features": _features(planned),
        "estimate": _estimate(plan, planned, counts),
    }


def _seeds(text: str) -> list[int]:
    """Read the seeds of the command line."""
    try:
        return check_seeds([int(part) for part in as_list(text)])
    except ValueError as error:
        raise InputError(str(error), "--seeds", "numbers, e.g. 0,1,2") from None


def _tasks(planned: ExperimentPlan, data: dict[str, Any], where: object) -> list[dict[str, Any]]:
    """Return the tasks of the first seed, with their training images where the data is there.

    Raises:
        InputError: if a task has no training image.
    """
    first, rows = planned.seeds[0], []
    holding = _classes_of_images(data)
    for number in range(1, planned.length + 1):
        classes = current_classes(planned.tasks[first, number].payload)
        images = None
        if holding is not None:
            images = sum(not found.isdisjoint(classes) for found in holding)
            if images == 0:
                what = f"task {number} has no training image"
                raise InputError(what, where, f"training images of {', '.join(classes[:5])}")
        rows.append({"task": number, "classes": classes, "images": images})
    return rows


def _classes_of_images(data: dict[str, Any]) -> list[set[str]] | None:
    """Return the classes on each training image, from the index or a COCO json; None without."""
    paths = [Path("resources/data") / data["id"] / "train.json"]
    if data["format"] == "coco":
        paths.append(Path(data["root"]) / data["train"])
    for path in paths:
        if path.is_file():
            content = read_json(path)
            if "annotations" not in content:
                return [{image["label"]} for image in content["images"]]
            names = {c["id"]: c["name"].strip() for c in content["categories"]}
            found: dict[Any, set[str]] = {image["id"]: set() for image in content["images"]}
            for box in content["annotations"]:
                found.get(box["image_id"], set()).add(names.get(box["category_id"], ""))
            return list(found.values())
    return None


def _image_counts(data: dict[str, Any]) -> dict[str, int] | None:
    """Return the number of images per split, or None if the data is not there."""
    if data["format"] == "shapes":
        from clclip.data.scenes import world_spec

        return dict(world_spec(data["world"])["counts"])
    if data["id"].endswith("-missing") or data.get("download"):
        return None
    from clclip.data.version import plan_facts

    return {split: len(names) for split, names in plan_facts(data)["images"].items()} or None


def _check_images(data: dict[str, Any], where: object) -> None:
    """Raise InputError if images of a COCO or VOC data set are missing; nothing is decoded."""
    if data["id"].endswith("-missing") or data["format"] not in ("coco", "voc"):
        return
    from clclip.data.homes import image_home
    from clclip.data.version import plan_facts

    if data.get("download"):
        return
    for split, names in plan_facts(data)["images"].items():
        home = image_home(data, split, names)
        absent = [name for name in names if not (home / name).is_file()]
        if absent and data["on_bad_image"] == "fail":
            what = f"{len(absent)} of {len(names)} {split} images are missing, e.g. {absent[0]!r}"
            raise InputError(what, f"{where}: {home}", "all images, or data.on_bad_image: skip")


def _data(data: dict[str, Any], counts: dict[str, int] | None) -> dict[str, Any]:
    """Tell of the data: where it was looked for, whether it is there, which images are missing."""
    found = {"id": data["id"], "format": data["format"], "images": counts}
    if data["format"] == "shapes":
        return found | {"there": True, "where": "generated"}
    return found | {"there": not data["id"].endswith("-missing"), "where": data["root"]}


def _clip(clip: dict[str, Any]) -> dict[str, Any]:
    """Tell of the CLIP: where its weights come from and whether they are there."""
    found = {"id": clip["id"], "model": clip["model"], "tag": clip.get("tag")}
    if clip.get("file"):
        return found | {"there": True, "where": clip["file"]}
    if clip["model"].startswith("embedded"):
        return found | {"there": True, "where": "shipped with the package"}
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    there = (Path("resources/clip") / clip["id"] / "clip.json").is_file()
    where = f"resources/clip/{clip['id']}, else open_clip's download into {home}"
    return found | {"there": there, "where": where}


def _features(planned: ExperimentPlan) -> dict[str, Any] | None:
    """Tell whether the frozen features of the first task are kept, and if not why."""
    task = planned.tasks[planned.seeds[0], 1].payload
    if "features" not in task:
        return None
    why = None
    if not task["features"]["cache"]:
        jitter = task["training"]["augment"] == "lsj"
        why = "training.augment: lsj moves them" if jitter else "training.cache_features: false"
    return {"cached": why is None, "why_not": why, "size": task["features"]["size"]}


def _estimate(
    plan: RunPlan, planned: ExperimentPlan, counts: dict[str, int] | None
) -> dict[str, float] | None:
    """Estimate minutes and disk space, to an order of magnitude; None without the data."""
    if counts is None:
        return None
    train, test = counts.get("train", 0), counts.get("test", 0)
    seconds = sum((train * (2 if f["flip"] else 1) + test) for f in plan.features.values())
    seconds /= FEATURE_RATE
    for task in planned.tasks.values():
        seen = sum(len(group) for group in task.payload["groups"])
        share = min(1.0, len(current_classes(task.payload)) / max(seen, 1) + 0.25)
        training = task.payload["training"]
        steps = max(1, math.ceil(train * share / training["batch_size"]))
        seconds += train * share * epochs_of(training, steps) / TRAIN_RATE
        seconds += test / PREDICT_RATE
    stored = sum(
        (train * (2 if f["flip"] else 1) + test) * (f["size"] / 8) ** 2 * 128 * (len(f["taps"]) + 1)
        for f in plan.features.values()
    )
    disk = 2 * stored / 1e6 + 2.0 * len(planned.tasks)
    return {"minutes": round(seconds / 60, 1), "disk_mb": round(disk)}


def text(described: dict[str, Any]) -> str:
    """Return a description as text for a terminal."""
    d, data, clip = described, described["data"], described["clip"]
    lines = [
        f"{d['name']}: {d['kind']}, method {d['method']}, {len(d['tasks'])} tasks, "
        f"seeds {', '.join(map(str, d['seeds']))}  ({d['file']})"
    ]
    for row in d["tasks"]:
        names = row["classes"]
        shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
        images = "" if row["images"] is None else f", {row['images']} training images"
        lines.append(f"  task {row['task']}: {len(names)} classes{images}: {shown}")
    state = "there" if data["there"] else "MISSING"
    images = data["images"]
    count = f"{images['train']} training, {images['test']} test images" if images else "not counted"
    lines.append(f"  data {data['id']} ({data['format']}): {state}, {data['where']}; {count}")
    state = "there" if clip["there"] else "to be fetched"
    lines.append(f"  CLIP {clip['id']}: {state}, {clip['where']}")
    if features := d["features"]:
        where = "kept in resources/features, see `clclip cache`"
        if features["why_not"]:
            where = f"not kept but computed in every pass ({features['why_not']})"
        lines.append(f"  frozen features at {features['size']} px: {where}")
    if d["estimate"]:
        lines.append(
            f"  estimate: {d['estimate']['minutes']} minutes on 2 CPU cores or one GPU, "
            f"{d['estimate']['disk_mb']} MB of disk; see docs for the measured budget"
        )
    return "\n".join(lines)
