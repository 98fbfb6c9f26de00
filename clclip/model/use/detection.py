"""A trained detector as a Python object: ``model(images)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clclip.clip.canvas import to_tensor
from clclip.core.errors import InputError, nearest
from clclip.core.task import clip_dir, seen_classes
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.inputs.views import View, image_boxes, letterboxed, render
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.methods.detector import Detector
from clclip.evaluation.calibrated.part import read_parts
from clclip.model.card import thresholds
from clclip.model.place import ModelPlace, tower_home
from clclip.model.use.also import THRESHOLD as WORD_THRESHOLD
from clclip.model.use.also import Words, asked_words, joined
from clclip.model.use.answers import Detections, joined_answers
from clclip.model.use.merged import load_network
from clclip.model.use.pictures import Picture, listed, prepared
from clclip.training.device import precision, to_device, training_device

BATCH = 16
THRESHOLD = 0.5
UNCUT = 100_000  # detections of an image before the cut to the model's own number
OnBad = Callable[[int, InputError], None]


class DetectionModel:
    """A detector of the classes of all its parts.

    Attributes:
        classes: the names of the classes that it reports; labels are their places.
        thresholds: class -> score from which on it is reported by default.
        calibrated: what maps the scores of classes that are calibrated to shares right.
        words: further class names, which no task has trained (``look_for``).
        card: what card.json says.
        detector: the network (``clclip.detection.methods.detector.Detector``).
        features: the frozen tower.
        limit: most detections of an image.
    """

    kind = "detection"

    def __init__(self, place: ModelPlace, device: str | torch.device | None = None) -> None:
        self.card, self.plan, self.place = place.card, place.plan, place
        self.classes: list[str] = list(place.card["classes"])
        self.thresholds = dict.fromkeys(self.classes, THRESHOLD) | thresholds(place.card)
        self.calibrated = read_parts(place.folders)
        self.words: Words | None = None
        chosen = training_device() if device is None else torch.device(device)
        described = place.plan["features"]
        with tower_home(place) as home:
            self.features = OnlineFeatures(
                clip_dir(place.plan, home),
                {},
                described["size"],
                described["dense"],
                described["taps"],
            )
        self.features.device = str(chosen)
        self.features.tower.to(chosen)
        self.detector = to_device(self._load(place), chosen, self.plan["training"]["precision"])
        self.limit: int = self.detector.options.detections
        # the cut comes after dropped classes are taken out, and comparisons look before it
        uncut = self.detector.options.model_copy(update={"detections": UNCUT})
        self.detector.options = uncut
        column = {name: k for k, name in enumerate(self.classes)}
        columns = [column.get(name, -1) for name in seen_classes(place.plan)]
        self._label = torch.tensor(columns)
        self._columns = len(columns)
        ids = {entry["name"]: entry["id"] for entry in place.card["categories"]}
        self._category = np.array([ids[name] for name in self.classes], dtype=np.int64)

    def _load(self, place: ModelPlace) -> Detector:
        width, stride = self.features.width, self.features.stride
        return load_network(place.task_file, place.texts, width, stride)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.detector.device

    def __call__(
        self,
        images: Any,
        *,
        threshold: float | Mapping[str, float] | None = None,
        classes: Sequence[str] | None = None,
        batch: int = BATCH,
    ) -> Detections | list[Detections]:
        """Detect objects.

        Args:
            images: a path, a PIL image, an array (H, W, 3) or (H, W) in uint8 or floats of 0..1, a
                tensor (3, H, W) likewise, or several: a list, a folder, an array (B, H, W, 3) or a
                tensor (B, 3, H, W).
            threshold: lowest score reported, for all classes or by class; None: the model's own.
            classes: report only these; None: all.
            batch: images of a forward pass.

        Returns:
            the detections of the image, or a list of them in the order of the images; at most
            ``limit`` an image, by falling score.

        Raises:
            InputError: if an image, a class or the threshold is wrong.
        """
        items, single = listed(images)
        results = [
            self.reported(one, threshold, classes) for _, one in self.candidates(items, batch=batch)
        ]
        return results[0] if single else results

    def reported(
        self,
        detections: Detections,
        threshold: float | Mapping[str, float] | None = None,
        classes: Sequence[str] | None = None,
    ) -> Detections:
        """Return what of ``candidates`` is reported: the best ``limit``, then those above.

        Scores of calibrated classes are mapped after the cut, so that the map changes neither
        which boxes are reported nor their order within a class; then all are sorted by score.
        Detections of classes given by name alone (``look_for``) follow those of trained classes.
        """
        trained = detections.labels < len(self.classes)
        own, more = detections.chosen(trained), detections.chosen(~trained)
        own = self.mapped(own.chosen(np.arange(min(len(own), self.limit))))
        keep = own.scores >= self.lowest(threshold)[own.labels]
        if classes is not None:
            keep &= np.isin(own.labels, [self.column(name) for name in classes])
        least = threshold if isinstance(threshold, int | float) else WORD_THRESHOLD
        return joined_answers(own.chosen(keep), more.chosen(more.scores >= least))

    def mapped(self, detections: Detections) -> Detections:
        """Return detections with calibrated scores, float64, by falling score."""
        if not self.calibrated.maps:
            return detections
        scores = self.calibrated.scores(detections.scores, detections.labels, self.classes)
        order = np.argsort(-scores, kind="stable")
        return replace(detections, scores=scores).chosen(order)

    def look_for(self, words: Sequence[str]) -> None:
        """Also detect classes that no task has trained, by name; [] detects none.

        Their scores are the frozen CLIP's in the model's own boxes; they are labelled from
        ``len(classes)`` on.

        Raises:
            InputError: if a name is none, or is a class of the model, or the tower lacks its text.
        """
        names = asked_words(words, self.classes)
        self.words = Words(self.place, names, self.device) if names else None
        added = list(range(len(self.classes), len(self.classes) + len(names)))
        self._label = torch.cat([self._label[: self._columns], torch.tensor(added).long()])
        highest = max(self._category[: len(self.classes)], default=0)
        ids = highest + 1 + np.arange(len(names), dtype=np.int64)
        self._category = np.concatenate([self._category[: len(self.classes)], ids])

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The words asked for besides as COCO categories, with ``"also": true``."""
        names = self.names[len(self.classes) :]
        ids = self._category[len(self.classes) :].tolist()
        return [{"id": n, "name": w, "also": True} for n, w in zip(ids, names, strict=True)]

    @property
    def names(self) -> list[str]:
        """The names by label: the classes, then the words asked for besides."""
        return self.classes + (self.words.names if self.words else [])

    def lowest(self, threshold: float | Mapping[str, float] | None) -> np.ndarray:
        """Return the lowest score (K,) of each class.

        Raises:
            InputError: if a number lies outside 0..1, or a class is none of the model's.
        """
        if threshold is None:
            given = dict(self.thresholds)
        elif isinstance(threshold, Mapping):
            for name in threshold:
                self.column(name)
            given = self.thresholds | dict(threshold)
        else:
            given = dict.fromkeys(self.classes, threshold)
        for value in given.values():
            if not 0 <= value <= 1:
                raise InputError(f"threshold {value}", "threshold", "a number from 0 to 1")
        return np.array([given[name] for name in self.classes], dtype=np.float64)

    def column(self, name: str) -> int:
        """Return the label of a class.

        Raises:
            InputError: if it is none of the model's.
        """
        if name not in self.classes:
            what = f"class {name!r}{nearest(name, self.classes)}"
            raise InputError(what, "classes", f"classes of the model: {', '.join(self.classes)}")
        return self.classes.index(name)

    def category_id(self, name: str) -> int:
        """Return the number by which COCO results name a class.

        Raises:
            InputError: if it is none of the model's.
        """
        return int(self._category[self.column(name)])

    def candidates(
        self, images: Sequence[Any], *, batch: int = BATCH, on_bad: OnBad | None = None
    ) -> Iterator[tuple[int, Detections]]:
        """Yield image number and all detections from the detector's lowest score on, uncut.

        Args:
            images: as ``__call__`` takes one of them.
            batch: images of a forward pass.
            on_bad: called with an image that cannot be read, which is then skipped; None: an error.

        Raises:
            InputError: if an image is wrong.
        """
        for number, detections, _ in self.stream(images, batch=batch, on_bad=on_bad):
            yield number, detections

    def stream(
        self, images: Sequence[Any], *, batch: int = BATCH, on_bad: OnBad | None = None
    ) -> Iterator[tuple[int, Detections, Picture]]:
        """Yield what ``candidates`` does with each image as it was read."""
        for ready in prepared(images, self._canvas, batch, on_bad):
            if not ready:
                continue
            numbers, canvases = zip(*ready, strict=True)
            with torch.no_grad():
                pixels = torch.stack([one[0] for one in canvases])
                outputs = self._forward(pixels, [one[1] for one in canvases])
            for number, own, (_, view, picture) in zip(numbers, outputs, canvases, strict=True):
                yield number, self._answer(own, view.scale, picture), picture

    def _canvas(self, picture: Picture) -> tuple[Tensor, View, Picture]:
        """Return an image on its canvas (3, S, S), how it lies there, and itself."""
        view = letterboxed(*picture.image.size, self.features.size)
        pixels = to_tensor(picture.image)
        canvas = render(pixels, view, self.features.size, self.features.mean, self.features.std)
        return canvas, view, picture

    def _forward(self, canvases: Tensor, views: Sequence[View]) -> list[dict[str, Tensor]]:
        """Return what the detector finds on canvases (B, 3, S, S)."""
        side = self.features.size
        extents = torch.tensor([[view.height, view.width] for view in views])
        with precision(self.plan["training"]["precision"], self.device):
            features = self.features.features(canvases)
            canvas = canvas_list(len(views), (side, side), extents)
            batch = Batch(features.taps, features.dense, canvas).to(self.device)
            outputs = self.detector.detect(batch)
            if self.words is not None:
                outputs = joined(outputs, self.words.detect(self.detector, batch), self._columns)
        return [{name: value.cpu() for name, value in own.items()} for own in outputs]

    def _answer(self, output: Mapping[str, Tensor], scale: float, picture: Picture) -> Detections:
        """Return one image's detections in its own pixels, without dropped classes."""
        labels = self._label[output["labels"]]
        keep = labels >= 0
        labels = labels[keep].numpy()
        return Detections(
            image_boxes(output["boxes"][keep], scale, picture.image.size).float().numpy(),
            output["scores"][keep].float().numpy(),
            labels,
            [self.names[label] for label in labels],
            *picture.image.size,
            picture.path,
            self._category[labels],
        )
