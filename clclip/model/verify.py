"""``clclip verify``: what a new model says of the classes that an old one knows, bit for bit.

Both models see the same images in the same batches, because the last bits of a matrix product
depend on its shape. Detections are compared before the cut to the best 100 of an image, where a
new class may take an old one's place, and before calibration and thresholds: those have a line of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from clclip.core.errors import InputError
from clclip.core.task import has_boxes
from clclip.data.own_images import find_images
from clclip.detection.methods.detector import Detector
from clclip.model.load import load_model
from clclip.model.use.answers import Detections
from clclip.model.use.classification import ClassificationModel
from clclip.model.use.detection import DetectionModel
from clclip.model.use.pictures import Picture, opened

BATCH = 8  # told in the result: other batches may round otherwise
SAME_OBJECT = 0.5  # IoU from which on two boxes are taken for one when a change is measured

Model = DetectionModel | ClassificationModel


@dataclass
class Change:
    """How one class differs between two models.

    Attributes:
        old: detections (of a classifier: images) of the old model.
        new: of the new one.
        images: images on which they differ.
        score: largest difference of a score; an object that one of them lacks counts with its own.
        box: largest difference of a box coordinate in pixels, of objects that both detect.
    """

    old: int = 0
    new: int = 0
    images: int = 0
    score: float = 0.0
    box: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        status = "changed" if self.images else "unchanged"
        result: dict[str, Any] = {"status": status, "old": self.old, "new": self.new}
        result["seen"] = self.old + self.new > 0
        if not self.images:
            return result
        return result | {"images": self.images, "score": self.score, "box_px": self.box}


@dataclass
class Verification:
    """The result of a verification.

    Attributes:
        classes: class -> {"status": "unchanged" | "changed" | "new" | "gone", ...}; where both know
            it, "seen" says whether either finds it on these images at all, "calibration":
            "changed" that `detect` maps its scores otherwise or reports from another one on, and
            "category_id": [old, new] that COCO results name it by another number.
        facts: what was compared, and how.
    """

    classes: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def compared(self) -> bool:
        """Whether there was anything to compare: a class that both know, detected on some image."""
        return any(row.get("seen") for row in self.classes.values())

    @property
    def passed(self) -> bool:
        """Whether something was compared, and no class that both know has changed."""
        unchanged = all(row["status"] != "changed" for row in self.classes.values())
        return self.compared and unchanged

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a release gate."""
        return {"passed": self.passed, **self.facts, "classes": self.classes}


def verify(
    old: Path,
    new: Path,
    images: Sequence[Path],
    *,
    batch: int = BATCH,
    recursive: bool = False,
    resources: Path | None = None,
) -> Verification:
    """Compare two models on images, class by class.

    Args:
        old: a model folder, or ``results/EXPERIMENT/seedN``.
        new: likewise.
        images: image files, folders, patterns, lists (see ``find_images``).
        batch: images of a forward pass, the same for both.
        recursive: look into the folders of folders.
        resources: folder of the towers; None: see ``load_model``.

    Raises:
        InputError: if a model or an image is missing or wrong, or the two are of different kinds.
    """
    if batch < 1:
        raise InputError(f"batch {batch}", "--batch", "a number from 1")
    files = find_images(images, recursive)
    before = load_model(old, resources=resources)
    after = load_model(new, resources=resources, kind=before.kind)
    shown = [opened(path) for path in files]
    both = [name for name in before.classes if name in after.classes]
    changes = {name: Change() for name in both}
    if isinstance(before, DetectionModel) and isinstance(after, DetectionModel):
        _compare_detectors(changes, before, after, shown, batch)
    elif isinstance(before, ClassificationModel) and isinstance(after, ClassificationModel):
        _compare_classifiers(changes, before, after, shown, batch)
    classes = {name: changes[name].as_dict() for name in both}
    if isinstance(before, DetectionModel) and isinstance(after, DetectionModel):
        for name in both:
            if _reports(before, name) != _reports(after, name):
                classes[name]["calibration"] = "changed"
            numbers = [before.category_id(name), after.category_id(name)]
            if numbers[0] != numbers[1]:
                classes[name]["category_id"] = numbers
    classes |= {name: {"status": "gone"} for name in before.classes if name not in both}
    classes |= {name: {"status": "new"} for name in after.classes if name not in both}
    return Verification(classes, _facts(before, after, len(files), batch))


def _compare_detectors(
    changes: Mapping[str, Change],
    before: DetectionModel,
    after: DetectionModel,
    shown: Sequence[Picture],
    batch: int,
) -> None:
    """Compare what two detectors find on each image, uncut."""
    for (_, one), (_, other) in zip(
        before.candidates(shown, batch=batch), after.candidates(shown, batch=batch), strict=True
    ):
        for name, change in changes.items():
            _compare_boxes(change, _of(one, before, name), _of(other, after, name))


def _compare_classifiers(
    changes: Mapping[str, Change],
    before: ClassificationModel,
    after: ClassificationModel,
    shown: Sequence[Picture],
    batch: int,
) -> None:
    """Compare the probabilities that two classifiers give each image."""
    columns = {n: (before.classes.index(n), after.classes.index(n)) for n in changes}
    for (_, one), (_, other) in zip(
        before.answers(shown, batch=batch), after.answers(shown, batch=batch), strict=True
    ):
        for name, (left, right) in columns.items():
            _compare_numbers(changes[name], one.probabilities[left], other.probabilities[right])


def _reports(model: DetectionModel, name: str) -> tuple[float, ...]:
    """Return the numbers that decide how a class's scores are reported."""
    line = model.calibrated.maps.get(name)
    mapped = () if line is None else (line.slope, line.intercept, line.offsets.get(name, 0.0))
    return (model.thresholds[name], *mapped)


def _of(detections: Detections, model: DetectionModel, name: str) -> Detections:
    """Return the detections of one class."""
    return detections.chosen(detections.labels == model.classes.index(name))


def _compare_boxes(change: Change, one: Detections, other: Detections) -> None:
    """Add one image's detections of one class."""
    change.old += len(one)
    change.new += len(other)
    if np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores):
        return
    change.images += 1
    overlap = box_iou(torch.from_numpy(one.boxes), torch.from_numpy(other.boxes)).numpy()
    left = set(range(len(other)))
    for row in range(len(one)):
        same = max(left, key=lambda column: overlap[row, column], default=None)
        if same is None or overlap[row, same] < SAME_OBJECT:
            change.score = max(change.score, float(one.scores[row]))
            continue
        left.remove(same)
        moved = float(np.abs(one.boxes[row] - other.boxes[same]).max())
        change.box = max(change.box, moved)
        change.score = max(change.score, abs(float(one.scores[row] - other.scores[same])))
    change.score = max([change.score, *(float(other.scores[column]) for column in left)])


def _compare_numbers(change: Change, one: Any, other: Any) -> None:
    """Add one image's probability of one class."""
    change.old, change.new = change.old + 1, change.new + 1
    if one != other:
        change.images += 1
        change.score = max(change.score, abs(float(one - other)))


def _facts(before: Model, after: Model, images: int, batch: int) -> dict[str, Any]:
    """Return what was compared, and how."""
    facts = {
        "old": str(before.place.place),
        "new": str(after.place.place),
        "kind": before.kind,
        "images": images,
        "batch": batch,
        "device": str(after.device),
        "compared": "bit for bit, before calibration and the cut to the best detections of an image"
        if isinstance(before, DetectionModel)
        else "bit for bit",
        "same_tower": before.card["clip"]["sha256"] == after.card["clip"]["sha256"],
    }
    if isinstance(before, DetectionModel) and isinstance(after, DetectionModel):
        facts["moved"] = moved(before.detector, after.detector)
    return facts


@torch.no_grad()
def moved(before: Detector, after: Detector) -> dict[str, float]:
    """Return how far each shared path has moved: |new - old| / |old| over its parameters.

    Args:
        before: a detector.
        after: another; paths are those of ``before``, in order.
    """
    result = {}
    paths = zip(before.shared_paths(), after.shared_paths(), strict=False)
    for number, (one, other) in enumerate(paths, 1):
        pairs = [(value, other.state_dict().get(name)) for name, value in one.state_dict().items()]
        same = [(a.double(), b.double()) for a, b in pairs if b is not None and a.shape == b.shape]
        length = sum(float(a.square().sum()) for a, _ in same)
        apart = sum(float((a - b).square().sum()) for a, b in same)
        result[f"path {number}"] = (apart / length) ** 0.5 if length else 0.0
    return result


def as_text(verification: Verification) -> str:
    """Return a table for people."""
    facts = verification.facts
    lines = [
        f"{facts['images']} images, batches of {facts['batch']} on {facts['device']}, compared "
        f"{facts['compared']}",
        f"  old: {facts['old']}",
        f"  new: {facts['new']}" + ("" if facts["same_tower"] else "  (another tower)"),
    ]
    width = max(map(len, verification.classes), default=0)
    for name, row in verification.classes.items():
        line = row["status"]
        if line == "changed":
            line += f" on {row['images']} images: scores by up to {row['score']:.3g}"
            line += f", boxes by up to {row['box_px']:.3g} px" if has_boxes(facts) else ""
        if "old" in row:
            line += f"  ({row['old']} and {row['new']}{'' if row['seen'] else ': not seen'})"
        if "calibration" in row:
            line += ", reported otherwise (calibration or threshold)"
        if "category_id" in row:
            line += ", category id {} is now {}".format(*row["category_id"])
        lines.append(f"  {name:{width}}  {line}")
    for name, value in facts.get("moved", {}).items():
        if value:
            lines.append(f"  {name} has moved by {100 * value:.3g} % of its length")
    rows = verification.classes.values()
    counts = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    line = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    if unseen := sum(row.get("seen") is False for row in rows):
        line += f"; {unseen} of the unchanged were not seen on these images"
    if not verification.compared:
        line += "; nothing was compared, as no image shows a class that both know"
    lines.append(f"{'passed' if verification.passed else 'FAILED'}: {line}")
    return "\n".join(lines)


STATUSES = ("unchanged", "changed", "new", "gone")
