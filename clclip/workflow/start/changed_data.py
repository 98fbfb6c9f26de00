"""Finished tasks that a changed data set trains again, named before anything starts.

What a task trains on is known from the annotations before images are indexed. That an image file
holds other pixels is not: the run itself sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.core.task import current_classes, has_boxes
from clclip.data.holdout import divided, share_held_out
from clclip.data.memo import memo_scope
from clclip.data.preview import preview
from clclip.data.split import classification_split, detection_train
from clclip.workflow.plan import ExperimentPlan, RunPlan, TaskPlan

Splits = dict[str, dict[str, Any]] | None
_TOLERANCE = 2.5  # px: boxes are cleaned against recorded sizes here, against the files' later


def first_changed(planned: ExperimentPlan, splits: Callable[[], Splits]) -> int | None:
    """Return the first finished task that other images or labels are now there for; None: none.

    Args:
        planned: the experiment, as a run in the working directory plans it.
        splits: gives the data's splits; called only where a finished task is of other data.
    """
    for (_, number), task in sorted(planned.tasks.items(), key=lambda item: item[0][1]):
        before = _trained_on(task)
        if before is None:
            continue
        data = splits()
        if data is None:
            return None
        try:
            alike = _alike(before, _training_split(task, data["train"]))
        except (InputError, KeyError, TypeError, ValueError):  # the stage says what is wrong
            continue
        if not alike:
            return number
    return None


def in_one_line(name: str, number: int) -> str:
    """Return in one line what follows from a change of what a task was trained on."""
    return (
        f"{name}: task {number} and all after it train again, because images or labels that task "
        f"{number} was trained on have changed; `start: MODEL` learns on from an exported model "
        "and leaves its classes as they are"
    )


def announced(plan: RunPlan) -> list[str]:
    """Return such a line for each experiment of a run that needs one."""
    lines = []
    for planned in plan.experiments.values():
        spec = plan.data[next(iter(planned.tasks.values())).payload["data"]["id"]]

        def splits(spec: dict[str, Any] = spec) -> Splits:
            try:
                return preview(spec, "data")
            except (InputError, OSError):  # `prepare` says it
                return None

        with memo_scope():
            if number := first_changed(planned, splits):
                lines.append(in_one_line(planned.name, number))
    return lines


def _trained_on(task: TaskPlan) -> Mapping[str, Any] | None:
    """Return the training split of a finished task of other data than the planned one's."""
    folder = Path(task.folder)
    if not (folder / "weights.safetensors").is_file():
        return None
    try:
        before, split = read_json(folder / "task.json"), read_json(folder / "train.json")
        same = before["data"]["id"] == task.payload["data"]["id"]
        # another stream is another task
        return None if same or before["groups"] != task.payload["groups"] else split
    except (InputError, KeyError, TypeError):
        return None


def _training_split(task: TaskPlan, data: dict[str, Any]) -> Mapping[str, Any]:
    """Return what a task trains on, as ``clclip split`` leaves it."""
    payload = task.payload
    if not has_boxes(payload):
        return classification_split(data, current_classes(payload))
    split = detection_train(data, payload, task.folder)
    share = share_held_out(payload)
    return divided(split, share, task.folder)[0] if share else split


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two training splits show the same objects on the same images."""
    if "annotations" not in one:
        return _labels(one) == _labels(other)
    if [i["id"] for i in one["images"]] != [i["id"] for i in other["images"]]:
        return False
    ours, theirs = _boxes(one), _boxes(other)
    return [box[0] for box in ours] == [box[0] for box in theirs] and all(
        abs(a - b) <= _TOLERANCE
        for (_, box), (_, its) in zip(ours, theirs, strict=True)
        for a, b in zip(box, its, strict=True)
    )


def _labels(split: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(image["file_name"], image["label"]) for image in split["images"]]


def _boxes(split: Mapping[str, Any]) -> list[tuple[tuple[int, str], list[float]]]:
    """Return ((image, class), box) of the labels."""
    names = {category["id"]: category["name"] for category in split["categories"]}
    return [
        ((box["image_id"], names[box["category_id"]]), box["bbox"]) for box in split["annotations"]
    ]
