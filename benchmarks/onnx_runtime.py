"""ONNX Runtime beside torch: python benchmarks/onnx_runtime.py [--quick] [--runs DIR ...].

Exports each run as `clclip export --onnx` does and times both on images of its test set, one
thread, from resized pixels to answers, tower included. A detector is timed in torch by its own
route and with every pair scored, which is what the file does. ``same`` is the share of detections
(class, IoU >= 0.99, score within 1e-3) on all test images that the other one has too; for a
classifier the largest difference of a probability. ``score`` is mAP@A or accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import detect_images
import measure
import numpy as np
import onnxruntime
import torch
import worlds

from clclip.core.files import read_json
from clclip.core.task import find_task, read_task, seen_classes
from clclip.data.images import load_rgb
from clclip.data.index import image_root
from clclip.evaluation.ap import average_precision
from clclip.evaluation.matching import match
from clclip.model.load import load_model
from clclip.model.onnx.agreement import canvases, every_pair, same
from clclip.model.onnx.classification import export_classifier
from clclip.model.onnx.detection import export_detector
from clclip.model.onnx.writing import FILE
from clclip.model.use.answers import Detections
from clclip.model.use.classification import ClassificationModel
from clclip.model.use.detection import DetectionModel

BATCHES = (1, 8)
AT_ONCE = 16


def opened(path: Path) -> onnxruntime.InferenceSession:
    """Return a session of one thread, as torch has here."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def times(
    contestants: Callable[[int], dict[str, Callable[[], object]]], rounds: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each batch size: milliseconds an image, and ratios to the file's.

    The floor is that of the last contestant, which computes what the file does.
    """
    rate = measure.gflops_of_machine()
    for batch in BATCHES:
        runs = contestants(batch)
        seconds = measure.timed(runs, rounds)
        row: dict[str, Any] = {"batch": batch}
        row |= {f"{n} ms": 1e3 * measure.median(s) / batch for n, s in seconds.items()}
        file = seconds["onnx"]
        row |= {f"onnx / {n}": measure.ratio(file, s) for n, s in seconds.items() if n != "onnx"}
        yield row | {"floor ms": measure.floor_ms(list(runs.values())[-1], rate) / batch}


def exported(export: Callable[[Any, Path], object], model: Any) -> onnxruntime.InferenceSession:
    """Return a model as the file that ``export`` writes of it, opened."""
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / FILE)
        return opened(Path(folder) / FILE)


# ---- detectors ----------------------------------------------------------------------------------


def detector_rows(
    model: DetectionModel, name: str, test: dict[str, Any], root: Path, rounds: int
) -> list[dict[str, Any]]:
    """Return the rows of a detector on the images of a COCO split."""
    session = exported(export_detector, model)
    pictures = [np.asarray(load_rgb(root / i["file_name"])) for i in test["images"]]
    first, sizes = canvases(pictures[: max(BATCHES)], model.features.size)
    views = [view for _, view, _ in map(model._canvas, map(_picture, pictures[: max(BATCHES)]))]

    def contestants(batch: int) -> dict[str, Callable[[], object]]:
        given = {"images": first[:batch], "sizes": sizes[:batch]}
        pixels = torch.from_numpy(first[:batch]) / 255
        seen = (pixels - model.features.mean) / model.features.std

        def torch_() -> object:
            with torch.no_grad():
                return model._forward(seen, views[:batch])

        def torch_all() -> object:
            with every_pair(model.detector):
                return torch_()

        return {"onnx": lambda: session.run(None, given), "torch": torch_, "torch all": torch_all}

    rows = list(times(contestants, rounds))
    files = list(_answers(session, pictures, model.features.size))
    with every_pair(model.detector):
        own = _all(model, pictures)
    rows[0] |= {"same": _share(files, own), "score": _map(model, test, files)}
    rows[0] |= {"score of torch all": _map(model, test, [_rows(one) for one in own])}
    rows[0] |= {"score of torch": _map(model, test, map(_rows, _all(model, pictures)))}
    return [{"run": name, **row} for row in rows]


Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _picture(pixels: np.ndarray) -> Any:
    from clclip.model.use.pictures import opened as read

    return read(pixels)


def _answers(
    session: onnxruntime.InferenceSession, pictures: Sequence[np.ndarray], side: int
) -> Iterator[Rows]:
    for start in range(0, len(pictures), AT_ONCE):
        part = pictures[start : start + AT_ONCE]
        images, sizes = canvases(part, side)
        *rows, image = session.run(None, {"images": images, "sizes": sizes})
        for number in range(len(part)):
            mine = image == number
            boxes, scores, classes = (torch.from_numpy(row[mine]) for row in rows)
            yield boxes, scores, classes


def _all(model: DetectionModel, pictures: Sequence[np.ndarray]) -> list[Detections]:
    """Return what a model detects in each picture, whatever its score."""
    found = model(pictures, threshold=0.0)
    return found if isinstance(found, list) else [found]


def _rows(one: Detections) -> Rows:
    boxes, labels = torch.from_numpy(one.boxes), torch.from_numpy(one.labels)
    return boxes, torch.from_numpy(one.scores).float(), labels


def _share(files: Sequence[Rows], own: Sequence[Detections]) -> float:
    pairs = [same(one, _rows(other)) for one, other in zip(files, own, strict=True)]
    shared = sum(int(p.any(1).sum()) + int(p.any(0).sum()) for p in pairs)
    return shared / sum(sum(p.shape) for p in pairs)


def _map(model: DetectionModel, test: dict[str, Any], answers: Any) -> float:
    """Return mAP@A, the area reading."""
    ids = {c["name"]: c["id"] for c in test["categories"] if c["name"] in model.classes}
    found = []
    for image, (boxes, scores, labels) in zip(test["images"], answers, strict=True):
        wide = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).double().tolist()
        for box, score, label in zip(wide, scores.tolist(), labels.tolist(), strict=True):
            category = ids[model.classes[label]]
            entry = {"image_id": image["id"], "category_id": category, "bbox": box, "score": score}
            found.append(entry)
    values = [
        average_precision(m.true_positive, m.object_images.size)
        for m in match(test, found, ids).values()
    ]
    known = [value for value in values if value is not None]
    return 100 * sum(known) / len(known)


# ---- classifiers --------------------------------------------------------------------------------


def classifier_rows(
    model: ClassificationModel, name: str, test: dict[str, Any], root: Path, rounds: int
) -> list[dict[str, Any]]:
    """Return the rows of a classifier on the images of a split."""
    session = exported(export_classifier, model)
    prepared = [model._prepare(load_rgb(root / i["file_name"])) for i in test["images"]]
    pixels = torch.stack(prepared)

    def probabilities(rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            seen = (rows.float() / 255 - model._mean) / model._std
            return model.classifier.predict_probabilities(seen)[:, model._columns]

    def contestants(batch: int) -> dict[str, Callable[[], object]]:
        given = {"images": pixels[:batch].numpy()}
        return {
            "onnx": lambda: session.run(None, given),
            "torch": lambda: probabilities(pixels[:batch]),
        }

    rows = list(times(contestants, rounds))
    labels = np.array([model.classes.index(i["label"]) for i in test["images"]])
    parts = [pixels[start : start + 64] for start in range(0, len(pixels), 64)]
    file = np.concatenate([session.run(None, {"images": part.numpy()})[0] for part in parts])
    own = torch.cat([probabilities(part) for part in parts]).float().numpy()
    rows[0] |= {"difference": float(np.abs(file - own).max())}
    rows[0] |= {"score": 100 * float((file.argmax(1) == labels).mean())}
    rows[0] |= {"score of torch": 100 * float((own.argmax(1) == labels).mean())}
    return [{"run": name, **row} for row in rows]


def run_rows(run: Path, resources: Path, rounds: int, most: int | None) -> list[dict[str, Any]]:
    """Return the rows of a trained run."""
    file = find_task(run, None)
    task = read_task(file)
    test = read_json(file.parent / "test.json")
    images = test["images"][:most]
    model = load_model(run, resources=resources, device="cpu")
    root, name = image_root(task, resources), f"{task['method']}, {len(seen_classes(task))} classes"
    if isinstance(model, DetectionModel):
        chosen = {i["id"] for i in images}
        boxes = [a for a in test["annotations"] if a["image_id"] in chosen]
        split = {**test, "images": images, "annotations": boxes}
        return detector_rows(model, name, split, root, rounds)
    return classifier_rows(model, name, {**test, "images": images}, root, rounds)


def untrained_rows(rounds: int) -> list[dict[str, Any]]:
    """Return the rows of a detector that was never trained, on images of the tiny world."""
    home = worlds.world_folder("clutter20_tiny")
    index = read_json(home / "index.json")
    test = read_json(home / index["splits"]["test"])
    with tempfile.TemporaryDirectory() as folder:
        place = detect_images.untrained(Path(folder))
        model = load_model(place, resources=worlds.HOME, device="cpu")
        assert isinstance(model, DetectionModel)
        return detector_rows(model, "clclip, untrained", test, home / index["root"], rounds)


def main() -> None:
    """Measure and write onnx_runtime.json."""
    chosen = measure.options(
        __doc__,
        runs={"type": Path, "nargs": "*", "default": [], "metavar": "DIR"},
        resources={"type": Path, "default": Path("resources"), "metavar": "DIR"},
        images={"type": int, "default": None, "metavar": "N", "help": "the first N; default: all"},
    )
    rows = [
        row
        for run in chosen.runs
        for row in run_rows(run, chosen.resources, chosen.rounds, chosen.images)
    ]
    if not rows:
        rows = untrained_rows(chosen.rounds)
    measure.write("onnx_runtime", chosen, rows)


if __name__ == "__main__":
    main()
