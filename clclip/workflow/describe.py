"""``clclip describe``: what an experiment would run and need, before anything runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from clclip.classification.features.layout import WHOLE
from clclip.config.experiment import Experiment
from clclip.config.load import find_experiment, read_experiment
from clclip.config.names import shadowed
from clclip.config.run import read_seeds
from clclip.core.artifacts import ClipSource, Task
from clclip.core.digest import canonical
from clclip.core.errors import InputError
from clclip.core.files import expanded
from clclip.core.homes import hub_home
from clclip.core.task import current_classes
from clclip.data.checks.findings import Findings
from clclip.data.holdout import divided, share_held_out
from clclip.data.index import instances
from clclip.data.memo import memo_scope
from clclip.data.prepare import check_data
from clclip.data.preview import preview
from clclip.data.split import classification_split, detection_train
from clclip.data.version import is_downloaded
from clclip.evaluation.ap import METRIC_NAMES
from clclip.model.kinds import KINDS
from clclip.training.epochs import epochs_of
from clclip.workflow.clip_checks import shared_texts
from clclip.workflow.data_spec import named_classes
from clclip.workflow.plan import ExperimentPlan, RunPlan, add_as_planned
from clclip.workflow.start.changed_data import first_changed, in_one_line

# Rough rates in images per second, of 2 CPU cores with the embedded CLIP at 128 px (larger canvases
# cost by their area); a ViT-B/16 at 640 px on one data-centre GPU is about as fast. They serve to
# tell minutes from days.
TRAIN_RATE, PREDICT_RATE, FEATURE_RATE, RATED_SIZE = 40.0, 40.0, 60.0, 128
CLOSED_FORM_SECONDS = 3.0  # a task that only adds up and solves
START_SECONDS = 10.0  # of a task: train and predict both load torch and the CLIP


def describe(
    entry: str,
    data_root: str | None = None,
    seeds: str | None = None,
    check_images: bool = False,
) -> dict[str, Any]:
    """Describe an experiment and check its data.

    Args:
        entry: name (STREAM_METHOD[_VARIANT...]) or experiment file.
        data_root: folder that relative data roots start from.
        seeds: replaces the file's, e.g. "0,1,2".
        check_images: open every image, as ``clclip prepare`` does; else annotations are read, and
            of images no more than what a doubt about them needs.

    Returns:
        {"name", "kind", "shadows": by another kind the name of its experiment that this name
        stands before, "method", "seeds", "start": what is taken over from a model, "tasks":
        [{"task", "classes", "images"}], "image_rule", "fractions", "evaluation": {"ap", "images",
        "metric"}, "data", "warnings": what is odd about data and classes, "unscored": classes of
        the tasks without test instances (None where they are not known), "trained_again": first
        finished task that changed data trains again, "clip", "features",
        "estimate", "spec": the data set as ``clclip prepare --spec`` takes it}; a task's "images"
        is the number that ``clclip split`` will leave it, None where the data is not there.

    Raises:
        InputError: if the experiment or the data that is there is wrong.
    """
    experiment, folder = read_experiment(source := find_experiment(entry))
    base = expanded(data_root).absolute() if data_root else folder
    plan = RunPlan()
    chosen = experiment.seeds if seeds is None else read_seeds(seeds)
    with memo_scope():
        planned = add_as_planned(plan, experiment, chosen, base, source, present=False)
        data, clip = next(iter(plan.data.values())), next(iter(plan.clips.values()))
        findings = Findings()
        named = named_classes((t.payload for t in planned.tasks.values()), data["id"])
        splits = preview(data, source, findings=findings, named=named)
        counts = _image_counts(data, splits)
        tasks = _tasks(planned, splits, source)
        unscored = _unscored(tasks, splits)
        again = first_changed(planned, lambda: splits)
        warnings = check_data(data, named) if check_images and splits else findings.warnings()
    warnings += shared_texts(planned.tasks[chosen[0], planned.numbers[-1]].payload)
    return {
        "name": planned.name,
        "file": str(source.file),
        "kind": experiment.kind,
        "shadows": shadowed(entry) if source.shipped else {},
        "method": experiment.method,
        "protocol": experiment.stream_name,
        "seeds": list(chosen),
        "start": _start(planned),
        "tasks": tasks,
        "image_rule": experiment.data.image_rule,
        "fractions": experiment.data.fractions and list(experiment.data.fractions),
        "evaluation": _evaluation(experiment),
        "data": _data(data, counts),
        "warnings": warnings,
        "unscored": unscored,
        "trained_again": again,
        "clip": _clip(clip),
        "features": _features(planned),
        "estimate": _estimate(plan, planned, counts, tasks),
        "spec": data,
    }


def _tasks(
    planned: ExperimentPlan, splits: dict[str, dict[str, Any]] | None, where: object
) -> list[dict[str, Any]]:
    """Return the tasks of the first seed, with their training images where the data is there.

    Raises:
        InputError: if ``clclip split`` would leave a task of any seed no training image.
    """
    counted: dict[str, int | None] = {}
    for task in planned.tasks.values():  # seeds with the same class order are counted once
        key = canonical([task.number, task.payload["groups"]])
        if key not in counted:
            images = None if splits is None else _training_images(task.payload, splits, where)
            counted[key] = images
    rows = []
    for number in planned.numbers:
        payload = planned.tasks[planned.seeds[0], number].payload
        images = counted[canonical([number, payload["groups"]])]
        rows.append({"task": number, "classes": current_classes(payload), "images": images})
    return rows


def _training_images(task: Task, splits: dict[str, dict[str, Any]], where: object) -> int:
    """Return how many images a task is trained on, by the functions of ``clclip split``."""
    if KINDS[task["kind"]].boxes:
        split = detection_train(splits["train"], task, str(where))
        if share := share_held_out(task):
            split, _ = divided(split, share, where)
        return len(split["images"])
    split = classification_split(splits["train"], current_classes(task))["images"]
    if not split:
        what = f"no training image for task {task['task']}"
        raise InputError(what, where, "classes with training images, or another class order")
    return len(split)


def _unscored(
    tasks: list[dict[str, Any]], splits: dict[str, dict[str, Any]] | None
) -> list[str] | None:
    """Return the classes of the tasks that no test instance shows, None without the data."""
    if splits is None:
        return None
    classes = [name for task in tasks for name in task["classes"]]
    return [name for name, count in instances(splits["test"], classes).items() if not count]


def _image_counts(
    data: dict[str, Any], splits: dict[str, dict[str, Any]] | None
) -> dict[str, int] | None:
    """Return the number of images per split, or None if the data is not there."""
    if data["format"] == "shapes":
        from clclip.data.shapes.worlds import changes, world_spec

        return dict(world_spec(data["world"], **changes(data))["counts"])
    if splits is None:
        return None
    return {name: len(split["images"]) for name, split in splits.items()}


def _start(planned: ExperimentPlan) -> dict[str, Any] | None:
    """Tell what is taken over from the model that the tasks go on from."""
    if planned.start is None:
        return None
    card = planned.start.card
    return {
        "model": str(planned.start.place),
        "digest": card["digest"],
        "tasks": [part["classes"] for part in card["parts"]],
        "tower": "in the model" if planned.start.tower() else "not in the model",
    }


def _evaluation(experiment: Experiment) -> dict[str, str]:
    """Return how the predictions are scored, the metric in words."""
    settings = experiment.evaluation.model_dump(mode="json", exclude_none=True)
    if not KINDS[experiment.kind].boxes:
        return {"images": "full", "metric": "accuracy"}
    return settings | {"metric": METRIC_NAMES[settings["ap"]]}


def _data(data: dict[str, Any], counts: dict[str, int] | None) -> dict[str, Any]:
    """Tell of the data: where it was looked for, whether it is there, which images are missing."""
    facts = {"id": data["id"], "format": data["format"], "images": counts}
    if data["format"] == "shapes":
        return facts | {"there": True, "where": "generated"}
    there = not data["id"].endswith("-missing") and is_downloaded(data)
    return facts | {"there": there, "where": data["root"], "download": bool(data.get("download"))}


def _clip(clip: ClipSource) -> dict[str, Any]:
    """Tell of the CLIP: where its weights come from and whether they are there."""
    facts = {"id": clip["id"], "model": clip["model"], "tag": clip.get("tag")}
    if folder := clip.get("folder"):
        return facts | {"there": True, "where": folder}
    if file := clip.get("file"):  # it may be gone, once it was copied
        copy, there = Path("resources/clip") / clip["id"], Path(file).is_file()
        copied = not there and (copy / "clip.json").is_file()
        return facts | {"there": there or copied, "where": str(copy) if copied else file}
    if revision := clip.get("revision"):
        there = (Path("resources/clip") / clip["id"] / "clip.json").is_file()
        where = f"resources/clip/{clip['id']}, else the hub's cache or a download of {revision}"
        return facts | {"there": there, "where": where}
    if clip["model"].startswith("embedded"):
        return facts | {"there": True, "where": "shipped with the package"}
    home = hub_home() or "no folder: set HF_HOME"
    there = (Path("resources/clip") / clip["id"] / "clip.json").is_file()
    where = f"resources/clip/{clip['id']}, else open_clip's download into {home}"
    return facts | {"there": there, "where": where}


def _features(planned: ExperimentPlan) -> dict[str, Any] | None:
    """Tell whether the frozen features of the first task are stored, and if not why."""
    task = planned.tasks[planned.seeds[0], planned.numbers[0]].payload
    if "features" not in task:
        return None
    why = None
    if not task["features"]["cache"]:
        jitter = task["training"]["augment"] == "lsj"
        why = "training.augment: lsj moves them" if jitter else "training.cache_features: false"
    return {"cached": why is None, "why_not": why, "size": task["features"]["size"]}


def _estimate(
    plan: RunPlan,
    planned: ExperimentPlan,
    counts: dict[str, int] | None,
    tasks: list[dict[str, Any]],
) -> dict[str, float] | None:
    """Estimate minutes and disk space, to an order of magnitude; None without the data."""
    if counts is None:
        return None
    train, test = counts.get("train", 0), counts.get("test", 0)
    read = sum((train * (2 if f["flip"] else 1) + test) for f in plan.features.values())
    sizes = [f["size"] for f in plan.features.values() if f["dense"] not in WHOLE]
    embedded = planned.config.clip.model.startswith("embedded")
    area = max([1.0, *((size / RATED_SIZE) ** 2 for size in sizes if embedded)])
    seconds = read * area / FEATURE_RATE
    closed_form = KINDS[planned.config.kind].methods[planned.config.method].closed_form
    for task in planned.tasks.values():
        seen = sum(len(group) for group in task.payload["groups"])
        share = min(1.0, len(current_classes(task.payload)) / max(seen, 1) + 0.25)
        if closed_form:
            seconds += CLOSED_FORM_SECONDS
            continue
        images = tasks[task.number - planned.numbers[0]]["images"] or train * share
        training = task.payload["training"]
        steps = max(1, math.ceil(images / training["batch_size"]))
        seconds += images * area * epochs_of(training, steps) / TRAIN_RATE
        seconds += test * area / PREDICT_RATE + START_SECONDS
    stored = sum(
        (train * (2 if f["flip"] else 1) + test) * _stored_numbers(f)
        for f in plan.features.values()
    )
    disk = 2 * stored / 1e6 + 2.0 * len(planned.tasks)
    return {"minutes": round(seconds / 60, 1), "disk_mb": round(disk)}


def _unscored_lines(described: dict[str, Any]) -> list[str]:
    """Return what will not be scored for lack of test instances, for a terminal."""
    empty = described["unscored"] or []
    tasks = described["tasks"]
    count = sum(len(task["classes"]) for task in tasks)
    if not empty:
        return []
    if len(empty) == count:
        return ["anything, because the test split shows no class of the tasks"]
    lines = [f"{len(empty)} of {count} classes, without test instances: {_some(empty)}"]
    blank = [str(t["task"]) for t in tasks if set(t["classes"]) <= set(empty)]
    if blank:
        lines.append(f"task {' and '.join(blank)}, none of whose classes has test instances")
    return lines


def _some(names: list[str], limit: int = 12) -> str:
    """Return the first names of a list, and how many there are."""
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _stored_numbers(features: dict[str, Any]) -> float:
    """Return about how many numbers a feature store keeps of an image."""
    if features["dense"] in WHOLE:
        return 1024.0 * (1 + WHOLE.index(features["dense"]))
    return (features["size"] / 8) ** 2 * 128 * (len(features["taps"]) + 1)


def text(described: dict[str, Any]) -> str:
    """Return a description as text for a terminal."""
    d, data, clip = described, described["data"], described["clip"]
    lines = [
        f"{d['name']}: {d['kind']}, method {d['method']}, {len(d['tasks'])} tasks, "
        f"seeds {', '.join(map(str, d['seeds']))}  ({d['file']})"
    ]
    lines += [f"  that of {kind} is called {name}" for kind, name in d["shadows"].items()]
    if start := d["start"]:
        known = [name for names in start["tasks"] for name in names]
        lines.append(
            f"  goes on from {start['model']} ({start['digest'][:12]}): taken over are tasks 1 to "
            f"{len(start['tasks'])}, {len(known)} classes: {_some(known)}; and what the file does "
            "not say of clip, training and switches"
        )
    for row in d["tasks"]:
        names = row["classes"]
        images = "" if row["images"] is None else f", {row['images']} training images"
        lines.append(f"  task {row['task']}: {len(names)} classes{images}: {_some(names)}")
    if KINDS[d["kind"]].boxes:
        rule = d["image_rule"]
        if d["fractions"]:
            rule += f", fractions {', '.join(f'{share:g}' for share in d['fractions'])}"
        on = {"full": "all test images", "group": "the test images with a class of the group"}
        metric, images = d["evaluation"]["metric"], d["evaluation"]["images"]
        lines.append(f"  image rule: {rule}; score: {metric} on {on[images]} ({images})")
    missing = "to be downloaded" if data.get("download") else "MISSING"
    state = "there" if data["there"] else missing
    images = data["images"]
    count = f"{images['train']} training, {images['test']} test images" if images else "not counted"
    lines.append(f"  data {data['id']} ({data['format']}): {state}, {data['where']}; {count}")
    lines += [f"  not scored: {line}" for line in _unscored_lines(d)]
    lines += [f"  about the data: {line}" for line in d["warnings"]]
    if again := d["trained_again"]:
        lines.append(f"  {in_one_line(d['name'], again)}")
    state = "there" if clip["there"] else "to be fetched"
    lines.append(f"  CLIP {clip['id']}: {state}, {clip['where']}")
    if clip["model"].startswith("embedded") and data["format"] != "shapes":
        real = "clip: {model: ViT-B-16, tag: openai}"
        lines.append(f"    it has only seen drawn shapes; for photographs: {real}")
    if features := d["features"]:
        where = "kept in resources/features, see `clclip cache`"
        if features["why_not"]:
            where = f"not kept but computed in every pass ({features['why_not']})"
        lines.append(f"  frozen features at {features['size']} px: {where}")
    if d["estimate"]:
        lines.append(
            f"  estimate, to tell minutes from days: {d['estimate']['minutes']} minutes on 2 idle "
            f"CPU cores or one GPU, {d['estimate']['disk_mb']} MB of disk"
        )
    return "\n".join(lines)
