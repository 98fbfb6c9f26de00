"""Naming the classes in images of one's own with a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clclip.classification.judging import load_classifier
from clclip.errors import InputError
from clclip.files import write_json
from clclip.task_file import read_task


def classify(
    run: Path,
    images: Sequence[Path],
    out: Path,
    resources: Path,
    task: int | None = None,
    top: int = 5,
) -> list[dict]:
    """Judge images and write the most probable classes of each.

    Args:
        run: a folder ``results/EXPERIMENT/seedN``.
        images: image files.
        out: JSON file: a list of {"image", "classes": [{"class", "probability"}, ...]}, most
            probable first.
        resources: the folder ``resources`` of the run's working directory.
        task: classifier after this task; None: after the last trained one.
        top: classes given for each image.

    Returns:
        what was written.

    Raises:
        InputError: if the run, the task or an image is missing or wrong, or the run is no
            classification.
    """
    if not images:
        raise InputError("no image given", "classify", "one or more image files")
    if top < 1:
        raise InputError(f"top {top}", "--top", "a number from 1")
    task_file = find_task(run, task)
    if read_task(task_file)["kind"] != "classification":
        raise InputError("a detection run", run, "a classification run (use `clclip detect`)")
    classifier = load_classifier(task_file, resources)
    table = classifier.probabilities(classifier.pixels(images))  # (N, K)
    values, columns = table.topk(min(top, len(classifier.classes)), dim=1)
    answers = [
        {
            "image": str(path),
            "classes": [
                {"class": classifier.classes[k], "probability": round(p, 6)}
                for k, p in zip(row, column_values, strict=True)
            ],
        }
        for path, row, column_values in zip(images, columns.tolist(), values.tolist(), strict=True)
    ]
    write_json(out, answers, indent=1)
    return answers


def find_task(run: Path, task: int | None) -> Path:
    """Return the task.json of a trained task of a run.

    Raises:
        InputError: if the run has no such trained task.
    """
    trained = sorted(
        int(path.parent.name.removeprefix("task"))
        for path in run.glob("task*/weights.safetensors")
        if path.parent.name.removeprefix("task").isdigit()
    )
    if not trained:
        raise InputError(
            "no trained task", run, "a folder results/EXPERIMENT/seedN of a finished run"
        )
    if task is not None and task not in trained:
        raise InputError(f"task {task}", "--task", f"one of {', '.join(map(str, trained))}")
    return run / f"task{task or trained[-1]}" / "task.json"
