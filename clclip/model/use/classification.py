"""A trained classifier as a Python object: ``model(images)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clclip.classification.classifier import EVAL_BATCH, Classifier, load_classifier
from clclip.classification.features.layout import MOMENTS
from clclip.classification.features.moments import moments
from clclip.classification.kind import CLASSIFICATION
from clclip.classification.pixels import preparation
from clclip.classification.registry import METHODS
from clclip.classification.seca.adapters import VisualTower
from clclip.clip.load import LoadedClip, load_clip
from clclip.core.task import clip_dir, seen_classes
from clclip.model.place import ModelPlace, tower_home
from clclip.model.use.answers import Classification
from clclip.model.use.detection import OnBad
from clclip.model.use.pictures import Picture, listed, prepared


class ClassificationModel:
    """A classifier of the classes of all its parts.

    Attributes:
        classes: the names of the classes that it reports; labels are their places.
        card: what card.json says.
        device: where it runs.
        classifier: turns normalised pixels into probabilities.
    """

    kind = "classification"
    classifier: Classifier | FeatureClassifier

    def __init__(self, place: ModelPlace, device: str | torch.device | None = None) -> None:
        self.card, self.plan, self.place = place.card, place.plan, place
        self.classes: list[str] = list(place.card["classes"])
        with tower_home(place) as home:
            if METHODS[place.plan["method"]].closed_form:
                clip = load_clip(clip_dir(place.plan, home))
                self.classifier = FeatureClassifier(place, clip, device)
                size = self.classifier.tower.image_size
            else:
                self.classifier = load_classifier(place.task_file, home)
                if device is not None:
                    move(self.classifier, torch.device(device))
                clip, size = self.classifier.clip, self.classifier.visual.context.tower.image_size
        self.device = next(clip.model.parameters()).device
        self._prepare = preparation(clip.model, size)
        self._mean, self._std = (
            torch.tensor(value, device=self.device).view(3, 1, 1) for value in (clip.mean, clip.std)
        )
        columns = [k for k, name in enumerate(seen_classes(place.plan)) if name in self.classes]
        self._columns = torch.tensor(columns)

    def __call__(
        self, images: Any, *, batch: int = EVAL_BATCH
    ) -> Classification | list[Classification]:
        """Tell the class of images.

        Args:
            images: a path, a PIL image, an array (H, W, 3) or (H, W) in uint8 or floats of 0..1, a
                tensor (3, H, W) likewise, or several: a list, a folder, an array (B, H, W, 3) or a
                tensor (B, 3, H, W).
            batch: images of a forward pass.

        Returns:
            the answer for the image, or a list of them in the order of the images.

        Raises:
            InputError: if an image is wrong.
        """
        items, single = listed(images)
        results = [one for _, one in self.answers(items, batch=batch)]
        return results[0] if single else results

    def answers(
        self, images: Sequence[Any], *, batch: int = EVAL_BATCH, on_bad: OnBad | None = None
    ) -> Iterator[tuple[int, Classification]]:
        """Yield image number and answer.

        Args:
            images: as ``__call__`` takes one of them.
            batch: images of a forward pass.
            on_bad: called with an image that cannot be read, which is then skipped; None: an error.

        Raises:
            InputError: if an image is wrong.
        """
        for ready in prepared(images, self._pixels, batch, on_bad):
            if not ready:
                continue
            pixels = torch.stack([own[0] for _, own in ready]).to(self.device)
            with torch.no_grad():
                table = self.classifier.predict_probabilities(
                    (pixels.float() / 255 - self._mean) / self._std
                ).cpu()
            for (number, (_, path)), row in zip(ready, table[:, self._columns], strict=True):
                yield number, self._answer(row.float().numpy(), path)

    def _pixels(self, picture: Picture) -> tuple[Tensor, str | None]:
        return self._prepare(picture.image), picture.path

    def _answer(self, row: np.ndarray, path: str | None) -> Classification:
        order = np.argsort(-row, kind="stable")
        return Classification(row, order, row[order], [self.classes[k] for k in order], path)


def move(classifier: Classifier, device: torch.device) -> None:
    """Move a classifier, which is loaded to an accelerator if there is one, to a device."""
    visual = classifier.visual
    classifier.clip.model.to(device)
    if visual.adapters is not None:
        visual.adapters.to(device)
    visual.context = replace(visual.context, device=device)
    classifier.text = classifier.text.to(device)
    if classifier.prototypes is not None:
        classifier.prototypes = classifier.prototypes.to(device)


class FeatureClassifier:
    """A classifier solved over frozen features, with its tower.

    Attributes:
        clip: the CLIP.
        tower: its frozen image tower.
        solved: has ``log_probabilities`` (N, K) of features (V, N, d).
    """

    def __init__(
        self, place: ModelPlace, clip: LoadedClip, device: str | torch.device | None
    ) -> None:
        usual = "cuda" if torch.cuda.is_available() else "cpu"
        self.features, self.clip = place.plan["features"], clip
        chosen = torch.device(device or usual)
        self.tower = VisualTower(clip.model.to(chosen), self.features["size"] or None)
        side = self.tower.image_size
        with torch.no_grad():
            width = self.views(torch.zeros(1, 3, side, side, device=chosen)).shape[-1]
        stages = import_module(CLASSIFICATION.module("predict", place.plan["method"]))
        self.solved = stages.load_solved(place.task_file, width)

    def views(self, images: Tensor) -> Tensor:
        """Return the features (V, B, d) of what normalised images (B, 3, S, S) show as."""
        if taps := self.features["taps"]:
            return torch.stack(list(self.tower.pooled_after(self.tower.stem(images), taps)))
        shown = [images, images.flip(-1)] if self.features["flip"] else [images]
        if self.features["dense"] == MOMENTS:
            return torch.stack([moments(self.tower, one) for one in shown])
        return torch.stack([self.tower.feature(self.tower.stem(one), None) for one in shown])

    def predict_probabilities(self, images: Tensor) -> Tensor:
        """Return probabilities (B, K) of normalised images (B, 3, S, S)."""
        rows = self.views(images).float().cpu().numpy()
        return torch.from_numpy(np.exp(self.solved.log_probabilities(rows)))
