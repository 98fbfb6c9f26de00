"""Learning on from a model (``start:``): its parts become the first tasks of a run.

The parts are copied beside the tasks that are learned next, byte for byte, so every stage finds
the earlier tasks where it always finds them. What a task learns then is what it would have learned
had all tasks been in one run: the record says so too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clclip.core.digest import canonical, digest, files_sha256
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json
from clclip.core.task import has_boxes, read_task, task_folders
from clclip.model.card import read_card
from clclip.model.export import copy_part

OF_A_MODEL = ("start", "hidden", "origins")
"""Keys of task.json that speak of the model which a stream started from."""


def take_over(place: Path, out: Path, wanted: str | None = None) -> dict[str, Any]:
    """Copy a model's parts beside ``out`` as ``task1``, ``task2``, ...; write ``out`` last.

    Args:
        place: a model folder.
        out: start.json in a seed's folder.
        wanted: the digest that the plan saw; None: whatever it is.

    Returns:
        what start.json says: {"model": digest, "parts": {folder: classes}, "categories": those of
        the model's card}.

    Raises:
        InputError: if the model is damaged, or another one than was planned.
    """
    card = read_card(place)
    if wanted is not None and card["digest"] != wanted:
        expected = f"the model that was planned with, {wanted[:12]}; start the workflow again"
        raise InputError(f"another model, {card['digest'][:12]}", place, expected)
    for part in card["parts"]:
        copy_part(place / part["folder"], out.parent / part["folder"])
    content = {
        "model": card["digest"],
        "parts": {part["folder"]: part["classes"] for part in card["parts"]},
        # a split gives classes that its data lacks new ids; what the model reports goes on with its
        "categories": card["categories"],
    }
    write_json(out, content, indent=1)
    return content


def check_taken_over(task_file: Path) -> None:
    """Refuse to learn on where the model's parts are not there.

    Raises:
        InputError: if start.json is missing or tells of another model than the task.
    """
    task, path = read_task(task_file), task_file.parent.parent / "start.json"
    content = read_json(path)
    if not isinstance(content, dict) or content.get("model") != task["start"]:
        what = "the parts of another model than the task's"
        raise InputError(what, path, "`clclip take-over` of the model that the plan names")


def settle(task_file: Path) -> None:
    """Let a task's record say what it would say had all its tasks been in one run.

    Its digest is otherwise of a task.json that names the model.
    """
    from clclip.detection.weights import read_weights
    from clclip.training.tensors import save_tensors

    task, folder = read_task(task_file), task_file.parent
    path = folder / "weights.safetensors"
    tensors, metadata = read_weights(path)
    plain = {key: value for key, value in task.items() if key not in OF_A_MODEL}
    if has_boxes(task):
        metadata["digest"] = _inputs_digest(plain, task_file)
    else:
        metadata["digest"] = digest(plain)
    save_tensors(path, tensors, metadata)


def _inputs_digest(plain: Mapping[str, Any], task_file: Path) -> str:
    """Return the digest of what a detection task is trained from, with ``plain`` as its task."""
    earlier = [path / "weights.safetensors" for path in task_folders(task_file)[:-1]]
    with tempfile.TemporaryDirectory() as work:
        plan_file = Path(work) / "task.json"
        plan_file.write_text(canonical(plain) + "\n", encoding="utf-8")
        return files_sha256(plan_file, task_file.parent / "train.json", *earlier)


def predict_merged(task_file: Path, resources: Path) -> None:
    """Run the stage ``predict`` of a task whose model was merged, on the network of all lines.

    The stage is the one of every detector; only what it loads is another network.
    """
    from clclip.detection.stages import train as stage
    from clclip.model.use.merged import load_merged

    usual = stage.load_detector
    stage.load_detector = load_merged
    try:
        stage.predict(task_file, resources)
    finally:
        stage.load_detector = usual


def silence(task_file: Path) -> None:
    """Take dropped classes out of a task's predictions: they are never reported."""
    task, folder = read_task(task_file), task_file.parent
    hidden, path = set(task.get("hidden", ())), folder / "predictions.json"
    if not hidden:
        return
    predictions = read_json(path)
    if has_boxes(task):
        truth = read_json(folder / "test.json")["categories"]
        gone = {entry["id"] for entry in truth if entry["name"] in hidden}
        predictions = [row for row in predictions if row["category_id"] not in gone]
    else:
        shown = [name not in hidden for name in predictions["classes"]]
        predictions["probabilities"] = [
            [p * keep for p, keep in zip(row, shown, strict=True)]
            for row in predictions["probabilities"]
        ]
    write_json(path, predictions)
