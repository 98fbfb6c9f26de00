"""``clclip calibrate``: the scores of a trained detector against images that it has not seen.

Each part of the model gets its own map and thresholds, in ``calibration.json`` beside its weights:
what is learned later changes nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json
from clclip.core.task import current_classes, read_task
from clclip.data.labelled import LabelledSet, missing_classes, read_labelled
from clclip.evaluation.calibrated.objective import Objective
from clclip.evaluation.calibrated.part import FILE, Rows, calibrate_part, map_of
from clclip.evaluation.calibrated.rows import rows_of
from clclip.evaluation.calibration import LEAST_SCORE, Reliability, reliability
from clclip.model.card import is_model, read_card
from clclip.model.export import finish
from clclip.model.load import load_model
from clclip.model.use.progress import progress

if TYPE_CHECKING:  # torch is imported when the data was read and found right
    from clclip.model.use.detection import DetectionModel


@dataclass(frozen=True)
class Outcome:
    """What was fitted, for people.

    Attributes:
        parts: the calibrations by task number, as they stand in their files.
        before, after: the calibration error on these very images, None without a detection.
    """

    parts: dict[int, dict[str, Any]]
    before: Reliability | None
    after: Reliability | None

    def as_text(self) -> str:
        """Return a table for a terminal."""
        width = max(len(name) for part in self.parts.values() for name in part["classes"])
        lines = [f"{'task':>4}  {'class':<{width}}  {'threshold':>9}  {'objects':>7}  numbers of"]
        for number, part in self.parts.items():
            for name, entry in part["classes"].items():
                own = "the class" if entry["own"] else "its task"
                lines.append(
                    f"{number:>4}  {name:<{width}}  {entry['threshold']:>9.3f}  "
                    f"{entry['objects']:>7}  {own}"
                )
        if self.before and self.after:
            lines.append(
                f"calibration error on these images: {self.before.error:.1f} points before, "
                f"{self.after.error:.1f} after"
            )
        return "\n".join(lines)


def calibrate(
    place: Path,
    data: Path,
    *,
    images: Path | None = None,
    objective: Objective | None = None,
    task: int | None = None,
    resources: Path | None = None,
) -> Outcome:
    """Fit the maps and thresholds of a model's parts and write them beside their weights.

    Args:
        place: a model folder, or ``results/EXPERIMENT/seedN``.
        data: a COCO json, or a YOLO data set, of images that training did not see; all objects of
            the classes are labelled.
        images: folder of the images of a COCO json.
        objective: what thresholds are chosen for; None: f1.
        task: calibrate only the classes of this task; None: those of all.
        resources: folder of the tower; None: see ``load_model``.

    Raises:
        InputError: if the model or the data is wrong, a class has no object in the data, or no
            class of the task is left.
    """
    labelled = read_labelled(data, images)
    model = cast("DetectionModel", load_model(place, resources=resources, kind="detection"))
    folders = {read_task(f / "task.json")["task"]: f for f in model.place.folders}
    if task is not None and task not in folders:
        raise InputError(f"task {task}", "--task", f"one of {', '.join(map(str, folders))}")
    reported = set(model.classes)
    reporting = {
        n: names
        for n, f in folders.items()
        if (names := [c for c in current_classes(read_task(f / "task.json")) if c in reported])
    }
    classes = {n: names for n, names in reporting.items() if task in (None, n)}
    if not classes:
        what = f"task {task}, whose classes were all dropped"
        raise InputError(what, "--task", f"one of {', '.join(map(str, reporting))}")
    every = [name for names in classes.values() for name in names]
    if absent := missing_classes(labelled, every):
        what = f"no object of class {absent[0]!r}" + _more(absent)
        expected = "objects of every class that is calibrated (--task N: those of one task)"
        raise InputError(what, data, expected)
    rows = detections(model, labelled, every)
    parts = {
        n: calibrate_part(rows, names, objective or Objective()) for n, names in classes.items()
    }
    parts = {n: part | {"source": data.name} for n, part in parts.items()}
    for number, part in parts.items():
        write_json(folders[number] / FILE, part, indent=1)
    if is_model(place):
        finish_card(place)
    return Outcome(parts, _error(rows, None), _error(rows, parts))


def _more(names: Sequence[str]) -> str:
    return f" (and of {len(names) - 1} more)" if len(names) > 1 else ""


def finish_card(folder: Path) -> None:
    """Write a model folder's card and README anew after its calibration changed."""
    card = read_card(folder, check_files=False)
    for part in card["parts"]:
        calibration = folder / part["folder"] / FILE
        if calibration.is_file():
            part["thresholds"] = read_json(calibration)["thresholds"]
    finish(folder, card, folder.name)


def detections(model: DetectionModel, labelled: LabelledSet, classes: Sequence[str]) -> Rows:
    """Return the model's detections on labelled images, cut as it cuts them, on its raw scores."""
    known = {c["name"]: c["id"] for c in labelled.dataset["categories"]}
    ids = {name: known[name] for name in classes}
    numbers, paths = list(labelled.paths), list(labelled.paths.values())
    results: list[dict[str, Any]] = []
    stream = model.candidates(paths)
    for place, every in progress(stream, len(paths), "calibrate"):
        best = every.chosen(np.arange(min(len(every), model.limit)))
        for record, name in zip(best.to_coco(numbers[place]), best.names, strict=True):
            if name in ids:
                results.append(record | {"category_id": ids[name]})
    return rows_of(labelled.dataset, results, ids)


def _error(rows: Rows, parts: dict[int, dict[str, Any]] | None) -> Reliability | None:
    """Return the calibration of the detections' scores, raw or mapped by the parts."""
    scores = np.asarray(rows.scores, dtype=np.float64)
    if parts is not None:
        names = np.array(rows.names, dtype=object)
        for part in parts.values():
            line = map_of(part)
            for name in part["classes"]:
                scores[names == name] = line(scores[names == name], name)
    shown = scores >= LEAST_SCORE
    right = np.asarray(rows.right, dtype=bool)[shown]
    return reliability(scores[shown].tolist(), right.tolist())
