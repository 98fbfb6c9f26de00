"""Classification: the same test images with every method's answer after chosen tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clclip.core.files import read_json
from clclip.core.task import read_task, seen_classes
from clclip.data.index import image_root
from clclip.evaluation.predictions import read_probabilities
from clclip.report.benchmark import Benchmark, Experiment
from clclip.report.sections.gallery import embed, steps

KINDS = ("same task", "earlier task", "later task")


@dataclass(frozen=True)
class Answer:
    """The class that a method gives an image after a task, in percent of its probability.

    ``mistake`` is empty for a right answer, else the task of the given class relative to the true
    one's: the same task, an earlier or a later one. ``seed`` None is the first.
    """

    task: int
    seed: int | None
    name: str
    score: float
    mistake: str


@dataclass(frozen=True)
class Shown:
    """One test image, its true class and that one's task, and per method its answers."""

    title: str
    uri: str
    label: str
    task: int
    answers: list[tuple[Experiment, list[Answer]]]

    def outcomes(self) -> list[str]:
        """Return what became of the image after the last task, over methods and seeds."""
        last = [a for _, own in self.answers for a in own if a.task == max(b.task for b in own)]
        return sorted({answer.mistake or "right" for answer in last})


Given = dict[Any, tuple[str, float]]
"""Image id -> (class given, percent)."""


def answers(benchmark: Benchmark, resources: Path, count: int) -> list[Shown]:
    """Return ``count`` test images with every method's answers; nothing for detection.

    Half are those on which the methods' last answers differ most in being right, half are taken at
    equal distances from the test list.

    Raises:
        InputError: if predictions, the test list or an image cannot be read.
    """
    if benchmark.detection or count < 1:
        return []
    first = benchmark.experiments[0]
    folder = first.task_dir(first.last_task)
    images = read_json(folder / "test.json")["images"]
    root = image_root(read_task(folder / "task.json"), resources)
    given = {
        (e.name, task, seed): _given(e.task_dir(task, seed))
        for e in benchmark.experiments
        for task in steps(e)
        for seed in benchmark.shown_seeds
    }
    task_of = {name: k for k, group in enumerate(benchmark.groups, start=1) for name in group}
    rows = []
    for image in _choose(benchmark, images, given, count):
        uri, _, _ = embed(root / image["file_name"], image.get("exif", True))
        own = [(e, _of(benchmark, e, image, given, task_of)) for e in benchmark.experiments]
        label = image["label"]
        rows.append(Shown(str(image["file_name"]), uri, label, task_of[label], own))
    return rows


def _given(folder: Path) -> Given:
    """Return one task's answers."""
    names = seen_classes(read_task(folder / "task.json"))
    path = folder / "predictions.json"
    _, predicted = read_probabilities(path, read_json(folder / "test.json"), names)
    written = read_json(path)
    rows = zip(written["images"], predicted, written["probabilities"], strict=True)
    return {image: (name, 100 * max(row)) for image, name, row in rows}


def _of(
    benchmark: Benchmark,
    experiment: Experiment,
    image: Mapping[str, Any],
    given: Mapping[tuple[str, int, int | None], Given],
    task_of: Mapping[str, int],
) -> list[Answer]:
    """Return one method's answers from the task on that brought the image's class."""
    result = []
    for task in steps(experiment):
        for seed in benchmark.shown_seeds:
            prediction = given[experiment.name, task, seed].get(image["id"])
            if prediction is not None:
                mistake = _mistake(prediction[0], image["label"], task_of)
                result.append(Answer(task, seed, *prediction, mistake))
    return result


def _mistake(name: str, label: str, task_of: Mapping[str, int]) -> str:
    """Return what kind of error an answer is, "" for none."""
    if name == label:
        return ""
    apart = task_of[name] - task_of[label]
    return KINDS[0] if apart == 0 else KINDS[1] if apart < 0 else KINDS[2]


def _choose(
    benchmark: Benchmark,
    images: Sequence[Mapping[str, Any]],
    given: Mapping[tuple[str, int, int | None], Given],
    count: int,
) -> list[Mapping[str, Any]]:
    """Return the images to show: half by how the last answers differ, half evenly."""
    seed = benchmark.shown_seeds[0]
    last = [given[e.name, steps(e)[-1], seed] for e in benchmark.contestants]

    def gap(image: Mapping[str, Any]) -> int:
        right = sum(own[image["id"]][0] == image["label"] for own in last if image["id"] in own)
        return min(right, len(last) - right)

    most = sorted(images, key=lambda image: -gap(image))[: (count + 1) // 2]
    rest = [image for image in images if image not in most]
    need = min(count - len(most), len(rest))
    return most + [rest[int((k + 0.5) * len(rest) / need)] for k in range(need)]
