"""Naming the classes in images of one's own with a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clclip.classification.registry import METHODS
from clclip.core.errors import InputError
from clclip.core.files import write_json
from clclip.core.task import find_task, read_task, resources_of, seen_classes
from clclip.data.images import image_files


def classify(
    run: Path,
    images: Sequence[Path],
    out: Path | None,
    task: int | None = None,
    top: int = 5,
    resources: Path | None = None,
) -> list[dict]:
    """Judge images and write the most probable classes of each.

    Args:
        run: a folder ``results/EXPERIMENT/seedN``.
        images: image files, or folders of them.
        out: JSON file: a list of {"image", "classes": [{"class", "probability"}, ...]}, most
            probable first; None: nothing is written.
        task: classifier after this task; None: after the last trained one.
        top: classes given for each image.
        resources: folder of the run's CLIP and data; None: ``resources`` beside its ``results``,
            else in the working directory.

    Returns:
        the answers.

    Raises:
        InputError: if the run, the task or an image is missing or wrong, or the run is no
            classification.
    """
    images = image_files(images)
    if top < 1:
        raise InputError(f"top {top}", "--top-k", "a number from 1")
    task_file = find_task(run, task)
    if read_task(task_file)["kind"] != "classification":
        raise InputError("a detection run", run, "a classification run (use `clclip detect`)")
    resources = resources_of(run) if resources is None else resources
    classes = seen_classes(read_task(task_file))
    answers = []
    for path, row in zip(images, _judged(task_file, resources, images), strict=True):
        best = sorted(range(len(classes)), key=lambda k: -row[k])[:top]
        named = [{"class": classes[k], "probability": round(row[k], 6)} for k in best]
        answers.append({"image": str(path), "classes": named})
    if out is not None:
        write_json(out, answers, indent=1)
    return answers


def _judged(task_file: Path, resources: Path, images: Sequence[Path]) -> list[list[float]]:
    """Return the probabilities (N, K) of all seen classes for image files."""
    task = read_task(task_file)
    if METHODS[task["method"]].closed_form:
        from clclip.classification.closed_form.classifier import judge_files

        return judge_files(task_file, resources, images).tolist()
    from clclip.classification.classifier import load_classifier

    classifier = load_classifier(task_file, resources)
    return classifier.probabilities(classifier.pixels(images)).tolist()
