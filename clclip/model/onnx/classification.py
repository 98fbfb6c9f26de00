"""``clclip export --onnx``: a classifier with its tower as one file, from pixels to probabilities.

Input ``images``: uint8 (B, 3, S, S), RGB, resized and cut as the metadata say; division by 255 and
normalisation are inside. Output ``probabilities``: (B, K). B is free. Metadata: ``names`` (JSON, in
the order of the columns), ``preprocessing`` (JSON), ``method``, ``clip``, ``clclip``.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import clclip
from clclip.core.errors import InputError
from clclip.model.onnx.solved import head_of
from clclip.model.onnx.writing import any_number_of_images, write_graph
from clclip.model.use.classification import ClassificationModel, FeatureClassifier

PROBE = 3  # images that the graph is traced and checked with
TOLERANCE = 1e-3

logger = logging.getLogger(__name__)


def export_classifier(model: ClassificationModel, path: Path) -> float:
    """Write a classifier as ONNX, and hold it against torch.

    Args:
        model: a classifier, on a CPU.
        path: the file.

    Returns:
        the largest difference of a probability from torch's, on random pixels.

    Raises:
        InputError: if packages are missing, the model cannot be exported, or the file does not
            agree with torch.
    """
    network = Network(model).eval()
    side = network.tower.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (PROBE, 3, side, side), generator=generator, dtype=torch.uint8)
    with (
        any_number_of_images(network.tower.trunk),
        write_graph(
            network,
            (images,),
            path,
            metadata(model, side),
            names=(["images"], ["probabilities"]),
            dynamic={"images": {0: torch.export.Dim.DYNAMIC}},
        ) as written,
    ):
        worst = difference(written, model, images)
    logger.info("%s: largest difference from torch %.1e", path, worst)
    return worst


def difference(path: Path, model: ClassificationModel, images: Tensor) -> float:
    """Return how far the probabilities of an ONNX file lie from the model's own, at most.

    Raises:
        InputError: if it is more than ``TOLERANCE``.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels = (images.float() / 255 - model._mean) / model._std
    with torch.no_grad():
        by_torch = model.classifier.predict_probabilities(pixels)[:, model._columns].float().numpy()
    worst = 0.0
    for count in (1, len(images)):
        table = session.run(None, {"images": images[:count].numpy()})[0]
        worst = max(worst, float(np.abs(table - by_torch[:count]).max()))
    if not worst <= TOLERANCE:
        what = f"an ONNX file {worst:.1e} away from torch"
        raise InputError(what, path, f"at most {TOLERANCE:g}; this tower cannot be exported")
    return worst


def metadata(model: ClassificationModel, side: int) -> dict[str, str]:
    """Return what the file says of itself: texts only, as ONNX has them."""
    from open_clip import get_model_preprocess_cfg

    steps: dict[str, Any] = dict(model.card["preprocessing"])
    given = dict(get_model_preprocess_cfg(model.classifier.clip.model))
    steps |= {key: given.get(key) for key in ("resize_mode", "interpolation")}
    steps |= {"side": side, "input": "uint8 RGB (B, 3, S, S)"}
    return {
        "names": json.dumps(model.classes),
        "preprocessing": json.dumps(steps),
        "method": str(model.card["method"]),
        "clip": json.dumps(model.card["clip"]),
        "clclip": clclip.__version__,
    }


class Network(nn.Module):
    """A classifier from pixels (B, 3, S, S) uint8 to probabilities (B, K), its tower inside."""

    def __init__(self, model: ClassificationModel) -> None:
        super().__init__()
        classifier = model.classifier
        if isinstance(classifier, FeatureClassifier):
            self.tower, views = classifier.tower, classifier.views
            head = head_of(classifier.solved)
            self._probabilities = lambda images: head(views(images).double())
        else:
            self.tower = classifier.visual.context.tower
            if classifier.visual.adapters is not None:
                classifier.visual.adapters.requires_grad_(False)
            self._probabilities = classifier.predict_probabilities
            if classifier.solved is not None:
                last = head_of(classifier.solved)
                self._probabilities = lambda images: last(classifier.features(images).double())
        # the file's constants: nothing of it learns
        self.tower.visual.requires_grad_(False)
        self.mean, self.std, self.columns = model._mean, model._std, model._columns

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities."""
        table = self._probabilities((images.float() / 255 - self.mean) / self.std)
        return table[:, self.columns].float()
