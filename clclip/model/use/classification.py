"""A trained classifier as a Python object: ``model(images)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clclip.classification.classifier import EVAL_BATCH, load_classifier
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
    """

    kind = "classification"

    def __init__(self, place: ModelPlace, device: str | torch.device | None = None) -> None:
        self.card, self.plan, self.place = place.card, place.plan, place
        self.classes: list[str] = list(place.card["classes"])
        with tower_home(place) as home:
            if METHODS[place.plan["method"]].closed_form:
                clip = load_clip(clip_dir(place.plan, home))
                self._predict, size = _from_features(place, clip, device)
            else:
                classifier = load_classifier(place.task_file, home)
                clip, size = classifier.clip, classifier.learner.tower.image_size
                self._predict = classifier.predict_probabilities
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
        found = [one for _, one in self.answers(items, batch=batch)]
        return found[0] if single else found

    def answers(
        self, images: Sequence[Any], *, batch: int = EVAL_BATCH, on_bad: OnBad | None = None
    ) -> Iterator[tuple[int, Classification]]:
        """Yield image number and answer.

        Args:
            images: as ``__call__`` takes one of them.
            batch: images of a forward pass.
            on_bad: told of an image that cannot be read, which is then left out; None: it ends all.

        Raises:
            InputError: if an image is wrong.
        """
        for ready in prepared(images, self._pixels, batch, on_bad):
            if not ready:
                continue
            pixels = torch.stack([own[0] for _, own in ready]).to(self.device)
            with torch.no_grad():
                table = self._predict((pixels.float() / 255 - self._mean) / self._std).cpu()
            for (number, (_, path)), row in zip(ready, table[:, self._columns], strict=True):
                yield number, self._answer(row.float().numpy(), path)

    def _pixels(self, picture: Picture) -> tuple[Tensor, str | None]:
        return self._prepare(picture.image), picture.path

    def _answer(self, row: np.ndarray, path: str | None) -> Classification:
        order = np.argsort(-row, kind="stable")
        return Classification(row, order, row[order], [self.classes[k] for k in order], path)


def _from_features(
    place: ModelPlace, clip: LoadedClip, device: str | torch.device | None
) -> tuple[Any, int]:
    """Return what predicts normalised images (B, 3, S, S) by frozen features, and S."""
    features, usual = place.plan["features"], "cuda" if torch.cuda.is_available() else "cpu"
    chosen, taps = torch.device(device or usual), features["taps"]
    tower = VisualTower(clip.model.to(chosen), features["size"] or None)

    def views(images: Tensor) -> np.ndarray:
        """Return the features (V, B, d) of what images show as."""
        if taps:
            rows = tower.pooled_after(tower.stem(images), taps)
        else:
            shown = [images, images.flip(-1)] if features["flip"] else [images]
            rows = [tower.feature(tower.stem(one), None) for one in shown]
        return np.stack([row.float().cpu().numpy() for row in rows])

    side = tower.image_size
    with torch.no_grad():
        width = views(torch.zeros(1, 3, side, side, device=chosen)).shape[-1]
    stages = import_module(CLASSIFICATION.module("predict", place.plan["method"]))
    solved = stages.load_solved(place.task_file, width)

    def predict(images: Tensor) -> Tensor:
        return torch.from_numpy(np.exp(solved.log_probabilities(views(images))))

    return predict, side
