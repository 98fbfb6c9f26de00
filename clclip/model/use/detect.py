"""``clclip detect``: objects in images of one's own, by a trained model or run.

``detections.json`` is a list of COCO results; ``dataset.json`` holds them as a COCO data set, which
``pycocotools.coco.COCO(file)`` and annotation tools read: ``images`` numbered from 1 in the order
given, ``categories`` with the ids of the model's own data, ``annotations`` the results.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

import clclip
from clclip.core.errors import InputError
from clclip.core.files import write_json
from clclip.data.own_images import find_images
from clclip.data.writers.formats import write_formats
from clclip.model.card import is_model
from clclip.model.load import load_model
from clclip.model.use.answers import Detections
from clclip.model.use.detection import BATCH, DetectionModel
from clclip.model.use.drawing import cut_out, drawing_names, drawn, folder_name
from clclip.model.use.pictures import Picture
from clclip.model.use.progress import Skipped, progress
from clclip.model.use.results_folder import ResultsFolder
from clclip.model.use.video import check_alone, frame_stream, is_video
from clclip.model.use.words import chosen_classes

logger = logging.getLogger(__name__)

WRITERS = 2  # threads that draw and compress
WAITING = 64  # drawings that wait for one at most


@dataclass
class Results:
    """What is known of the images so far."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)


def detect(
    place: Path,
    images: Sequence[Path],
    out: Path,
    *,
    task: int | None = None,
    classes: Sequence[str] | None = None,
    threshold: float | None = None,
    resources: Path | None = None,
    batch: int = BATCH,
    recursive: bool = False,
    on_bad_image: Literal["fail", "skip"] = "fail",
    crops: bool = False,
    also: Sequence[str] = (),
    formats: Sequence[str] = (),
    every: int | None = None,
) -> list[dict[str, Any]]:
    """Detect in images; write ``detections.json``, ``dataset.json`` and a drawn PNG per image.

    Args:
        place: a model folder, or ``results/EXPERIMENT/seedN``.
        images: image files, folders of them, patterns, lists (see ``find_images``).
        out: folder of the results; nothing is written there unless all went well. What an earlier
            call wrote there is replaced (``ResultsFolder``).
        task: use a run's detector after this task; None: after the last trained one.
        classes: report only these, as ``chosen_classes`` reads them; None: all.
        threshold: lowest score reported; None: each class's own.
        resources: folder of the tower; None: see ``load_model``.
        batch: images of a forward pass.
        recursive: look into the folders of folders.
        on_bad_image: what to do with an image that cannot be read: stop with an error, or skip it
            with a warning.
        crops: write each object as an image of its own to ``crops/CLASS/`` besides.
        also: further classes, by name, that the model was not trained on (``look_for``); their
            detections carry ``"also": true``.
        formats: of other tools, which are written besides (``chosen_formats``).
        every: of a video, every so many frames; None: 1.

    Returns:
        what detections.json holds: {"image_id", "category_id", "bbox": [x, y, width, height],
            "score", "image", "class", ...}.

    Raises:
        InputError: if the model, a class or an image is missing or wrong, ``out`` is a model, or
            files that would be replaced there are not as an earlier call left them.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold}", "--threshold", "a number from 0 to 1")
    if batch < 1:
        raise InputError(f"batch {batch}", "--batch", "a number from 1")
    files = find_images(images, recursive)
    videos = [path for path in files if is_video(path)]
    check_alone(videos, files, every)
    names = drawing_names(files, out)
    folder = ResultsFolder(out, files)
    folder.check([*names, "dataset.json", "detections.json"])
    model = load_model(place, task=task, resources=resources, kind="detection")
    assert isinstance(model, DetectionModel)
    chosen = None if classes is None else chosen_classes(classes, model.classes)
    model.look_for(also)
    skipped, results = Skipped(files, on_bad_image), Results()
    with folder.staged() as work, _Drawings(work, len(model.classes)) as drawings:
        stream = _stream(model, videos, every or 1, skipped, names, batch)
        for entry, name, whole, picture in stream:
            detections = model.reported(whole, threshold, chosen)
            _note(results, entry, detections, len(model.classes))
            drawings.add(name, picture, detections, crops)
        skipped.check()
        dataset = {
            "info": _info(model, place, threshold) | skipped.as_info(),
            "images": results.images,
            "categories": model.card["categories"] + model.asked,
            "annotations": results.annotations,
        }
        write_formats(dataset, work, formats, f"clclip {clclip.__version__}")
        write_json(work / "dataset.json", dataset, indent=1)
        write_json(work / "detections.json", results.annotations, indent=1)
    logger.info("%d objects in %d images: %s", len(results.annotations), len(results.images), out)
    return results.annotations


def _stream(
    model: DetectionModel,
    videos: Sequence[Path],
    every: int,
    skipped: Skipped,
    names: Sequence[str],
    batch: int,
) -> Iterator[tuple[dict[str, Any], str, Detections, Picture]]:
    """Yield the detections in the frames of videos, or in images."""
    if videos:
        return frame_stream(model, videos, every, batch)
    return _image_stream(model, skipped, names, batch)


def _image_stream(
    model: DetectionModel, skipped: Skipped, names: Sequence[str], batch: int
) -> Iterator[tuple[dict[str, Any], str, Detections, Picture]]:
    """Yield for each image its entry, the name of its drawing, its detections, and itself."""
    stream = model.stream(skipped.files, batch=batch, on_bad=skipped.add)
    for n, whole, picture in progress(stream, len(skipped.files), "detect"):
        yield {"file_name": str(skipped.files[n])}, names[n], whole, picture


def _info(model: DetectionModel, place: Path, threshold: float | None) -> dict[str, Any]:
    """Return what dataset.json says of how it was made."""
    return {
        "description": f"detections of clclip {clclip.__version__}",
        "model" if is_model(place) else "run": str(place),
        "task": model.plan["task"],
        "threshold": model.thresholds if threshold is None else threshold,
    }


def _note(results: Results, given: Mapping[str, Any], detections: Detections, trained: int) -> None:
    """Add one image's entry and its records, of COCO with "image" and "class" besides.

    Labels from ``trained`` on are of words that were never trained.
    """
    number = len(results.images) + 1
    sizes = {"width": detections.width, "height": detections.height}
    results.images.append({"id": number, **given, **sizes})
    records = detections.to_coco(number, len(results.annotations) + 1)
    rows = zip(records, detections.names, detections.labels.tolist(), strict=True)
    for record, name, label in rows:
        mark = {"also": True} if label >= trained else {}
        results.annotations.append({**record, "image": given["file_name"], "class": name, **mark})


class _Drawings:
    """Draws and writes in threads, which do not wait for the detector."""

    def __init__(self, folder: Path, trained: int) -> None:
        self.folder, self.trained, self._pool = folder, trained, ThreadPoolExecutor(WRITERS)
        self._waiting: list[Future[None]] = []

    def __enter__(self) -> _Drawings:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                for future in self._waiting:
                    future.result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, name: str, picture: Picture, detections: Detections, crops: bool) -> None:
        """Write an image's drawing, and perhaps its objects."""
        if len(self._waiting) >= WAITING:
            self._waiting.pop(0).result()
        self._waiting.append(
            self._pool.submit(
                self._write, self.folder / name, picture.image, detections, crops, self.trained
            )
        )

    @staticmethod
    def _write(
        path: Path, image: Image.Image, detections: Detections, crops: bool, trained: int
    ) -> None:
        drawn(image, detections, trained).save(path, format="PNG", compress_level=1)
        if crops:
            for number, (crop, name) in enumerate(
                zip(cut_out(image, detections), detections.names, strict=True), 1
            ):
                folder = path.parent / "crops" / folder_name(name)
                folder.mkdir(parents=True, exist_ok=True)
                crop.save(folder / f"{path.stem}-{number}.png", format="PNG", compress_level=1)
