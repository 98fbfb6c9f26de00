"""One finished task as the public Python API shows it (``clclip.load_run``)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clclip.core import artifacts
from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.core.task import current_classes, has_boxes, previous_classes, read_task, seen_classes


@dataclass(frozen=True)
class Task:
    """One finished task of one seed.

    Attributes:
        number: from 1.
        folder: results/EXPERIMENT/seedN/taskT.
        scores: "P", "C", "A": the score on previous, current and all seen classes.
        per_class: class -> AP or accuracy.
        objects: class -> test objects (classification: test images).
        config: the task file, the only configuration that its stages read.
    """

    number: int
    folder: Path
    scores: dict[str, float | None]
    per_class: dict[str, float | None]
    objects: dict[str, int]
    config: artifacts.Task = field(repr=False)

    @property
    def previous_classes(self) -> list[str]:
        """Classes of earlier tasks; none for ``joint``."""
        return previous_classes(self.config)

    @property
    def current_classes(self) -> list[str]:
        """Classes that this task trained."""
        return current_classes(self.config)

    @property
    def seen_classes(self) -> list[str]:
        """Previous, then current classes."""
        return seen_classes(self.config)

    def predictions(self) -> list[dict[str, Any]]:
        """Read what the task's model says about the test images.

        Returns:
            detection: a dict per box with "image" (id), "file" (its name), "class", "box" [x, y, w,
            h] in pixels and "score"; classification: a dict per image with "image", "file",
            "label", "predicted", "score" (the probability of "predicted"), "right" and
            "probabilities" {class: probability}.

        Raises:
            InputError: if the predictions or the test list are missing or broken.
        """
        truth = read_json(self.folder / "test.json")
        files = {image["id"]: image["file_name"] for image in truth["images"]}
        return (self._boxes if has_boxes(self.config) else self._labels)(truth, files)

    def _boxes(self, truth: Mapping[str, Any], files: Mapping[Any, str]) -> list[dict[str, Any]]:
        """Return detections with class names."""
        from clclip.evaluation.predictions import class_ids, read_detections

        ids = class_ids(truth, self.seen_classes, self.folder / "test.json")
        name_of = {category: name for name, category in ids.items()}
        return [
            {
                "image": row["image_id"],
                "file": files[row["image_id"]],
                "class": name_of[row["category_id"]],
                "box": row["bbox"],
                "score": row["score"],
            }
            for row in read_detections(self.folder / "predictions.json", truth, ids)
        ]

    def _labels(self, truth: Mapping[str, Any], files: Mapping[Any, str]) -> list[dict[str, Any]]:
        """Return one dict per test image."""
        from clclip.evaluation.predictions import read_probabilities

        path, names = self.folder / "predictions.json", self.seen_classes
        labels, predicted = read_probabilities(path, truth, names)
        written = read_json(path)
        rows = zip(written["images"], labels, predicted, written["probabilities"], strict=True)
        return [
            {
                "image": image,
                "file": files[image],
                "label": label,
                "predicted": guess,
                "score": row[names.index(guess)],
                "right": label == guess,
                "probabilities": dict(zip(names, row, strict=True)),
            }
            for image, label, guess, row in rows
        ]

    def diagnosis(self) -> dict[str, dict[str, Any]]:
        """Return why each earlier class lost AP by this task (detection).

        Returns:
            class -> {"earlier_task", "before", "after", "lost", "causes": {cause: points}}; empty
            for task 1, ``joint`` and classification.

        Raises:
            InputError: if the predictions of this or an earlier task are missing or broken.
        """
        if not has_boxes(self.config):
            return {}
        from clclip.evaluation.diagnosis import diagnose

        return diagnose(self.folder / "task.json")["classes"]

    def history(self) -> list[dict[str, float]]:
        """Read history.csv: a dict per recorded step with losses, learning rate and speed.

        Raises:
            InputError: if the file is missing or holds something that is no number.
        """
        path = self.folder / "history.csv"
        try:
            with path.open(encoding="utf-8", newline="") as handle:
                rows = list(csv.DictReader(handle))
            return [{key: float(value) for key, value in row.items() if value} for row in rows]
        except OSError as error:
            expected = "the history that `clclip train` wrote"
            raise InputError(f"not readable ({error.strerror})", path, expected) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"not a history ({error})", path, "a table of numbers") from None


def open_task(folder: Path) -> Task:
    """Read a finished task; its predictions are read when they are asked for.

    Args:
        folder: results/EXPERIMENT/seedN/taskT.

    Raises:
        InputError: if task.json or scores.json are missing or broken.
    """
    config = read_task(folder / "task.json")
    scores = read_stage_file(folder / "scores.json", "scores")
    try:
        return Task(
            config["task"],
            folder,
            {part: scores["metrics"][part] for part in "PCA"},
            {name: row["score"] for name, row in scores["per_class"].items()},
            {name: row["objects"] for name, row in scores["per_class"].items()},
            config,
        )
    except (KeyError, TypeError, AttributeError) as error:
        where = folder / "scores.json"
        raise InputError(f"not scores ({error})", where, "a file of `clclip score`") from None
