"""``clclip export --onnx``: a classifier with its tower as one file, from pixels to probabilities.

Input ``images``: uint8 (B, 3, S, S), RGB, resized and cut as the metadata say; division by 255 and
normalisation are inside. Output ``probabilities``: (B, K). B is free. Metadata: ``names`` (JSON, in
the order of the columns), ``preprocessing`` (JSON), ``method``, ``clip``, ``clclip``.
"""

from __future__ import annotations

import json
import logging
import types
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import clclip
from clclip.classification.classifier import Classifier
from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.learner import TEXT_SCALE, Solved
from clclip.clip.trunk import OpenClipTrunk, resized_position
from clclip.core.errors import InputError
from clclip.core.files import replacing
from clclip.model.use.classification import ClassificationModel, FeatureClassifier

OPSET = 18
FILE = "model.onnx"
PROBE = 3  # images that the graph is traced and checked with
TOLERANCE = 1e-3

logger = logging.getLogger(__name__)


def check_onnx() -> None:
    """Refuse now where the packages of the extra ``onnx`` are missing.

    Raises:
        InputError: if one is.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            expected = "`pip install 'clclip[onnx]'`"
            raise InputError(f"the package {name} is missing", "--onnx", expected)


def export_onnx(model: ClassificationModel, path: Path) -> float:
    """Write a classifier as ONNX, and hold it against torch.

    Args:
        model: a classifier, on a CPU.
        path: the file.

    Returns:
        the largest difference of a probability from torch's, on random pixels.

    Raises:
        InputError: if packages are missing, the method or its tower cannot be exported, or the file
            does not agree with torch.
    """
    check_onnx()
    network = Network(model).eval()
    side = network.tower.image_size
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (PROBE, 3, side, side), generator=draws, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            network,
            (images,),
            None,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}},
            opset_version=OPSET,
        )
    assert made is not None
    properties = metadata(model, side)
    made.model.metadata_props.update(properties)
    with replacing(path) as temporary:
        made.save(temporary, external_data=False)
        worst = difference(temporary, network, images)
    logger.info("%s: largest difference from torch %.1e", path, worst)
    return worst


def difference(path: Path, network: Network, images: Tensor) -> float:
    """Return how far the probabilities of an ONNX file lie from torch's, at most.

    Raises:
        InputError: if it is more than ``TOLERANCE``.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, len(images)):
        exported = session.run(None, {"images": images[:count].numpy()})[0]
        with torch.no_grad():
            own = network(images[:count]).numpy()
        worst = max(worst, float(np.abs(exported - own).max()))
    if not worst <= TOLERANCE:
        what = f"an ONNX file {worst:.1e} away from torch"
        raise InputError(what, path, f"at most {TOLERANCE:g}; this tower cannot be exported")
    return worst


def metadata(model: ClassificationModel, side: int) -> dict[str, str]:
    """Return what the file says of itself: texts only, as ONNX has them."""
    from open_clip import get_model_preprocess_cfg

    preprocessing: Mapping[str, Any] = model.card["preprocessing"]
    given = dict(get_model_preprocess_cfg(model.classifier.clip.model))
    steps = {key: given.get(key) for key in ("resize_mode", "interpolation")}
    return {
        "names": json.dumps(model.classes),
        "preprocessing": json.dumps(
            {**preprocessing, **steps, "side": side, "input": "uint8 RGB (B, 3, S, S)"}
        ),
        "method": str(model.card["method"]),
        "clip": json.dumps(model.card["clip"]),
        "clclip": clclip.__version__,
    }


class Network(nn.Module):
    """A classifier from pixels (B, 3, S, S) uint8 to probabilities (B, K), its tower inside.

    Raises:
        InputError: if the method has no such network.
    """

    def __init__(self, model: ClassificationModel) -> None:
        super().__init__()
        classifier = model.classifier
        if isinstance(classifier, FeatureClassifier) and isinstance(classifier.solved, Solved):
            self.tower, head = classifier.tower, ByFeatures(classifier.solved)
            self._probabilities = lambda images: head(classifier.views(images))
        elif isinstance(classifier, Classifier) and classifier.solved is None:
            self.tower = classifier.visual.context.tower
            if classifier.visual.adapters is not None:
                classifier.visual.adapters.requires_grad_(False)
            self._probabilities = classifier.predict_probabilities
        else:
            known = "seca, hpeft and their kin, or ncm, ridge, ranpac, gda, gda_text, seca_cov"
            raise InputError(f"method {model.card['method']!r}", "--onnx", known)
        # the file's constants: nothing of it learns
        self.tower.visual.requires_grad_(False)
        if isinstance(self.tower.trunk, OpenClipTrunk):  # its own fixes the number of images
            vars(self.tower.trunk)["embed"] = types.MethodType(_embed, self.tower.trunk)
        self.mean, self.std, self.columns = model._mean, model._std, model._columns

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities."""
        table = self._probabilities((images.float() / 255 - self.mean) / self.std)
        return table[:, self.columns].float()


def _embed(trunk: OpenClipTrunk, images: Tensor) -> tuple[Tensor, Any]:
    """Do what ``OpenClipTrunk.embed`` does, for any number of images."""
    visual = trunk.visual
    x = visual.conv1(images)
    height, width = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    token = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    position = resized_position(visual.positional_embedding, visual.grid_size, (height, width))
    return visual.ln_pre(torch.cat([token, x], dim=1) + position.to(x.dtype)), None


class ByFeatures(nn.Module):
    """``Solved`` in torch, in double precision: features (V, B, d) to probabilities (B, K)."""

    def __init__(self, solved: Solved) -> None:
        super().__init__()
        self.solved = solved
        self.ridge = _linear(solved.ridge)
        self.plain = None if solved.plain is None else _linear(solved.plain)
        hidden = solved.maps.hidden.weights
        self.hidden = None if hidden is None else torch.from_numpy(hidden)
        self.text = None if solved.text is None else torch.from_numpy(solved.text).double()

    def forward(self, features: Tensor) -> Tensor:
        """Return probabilities."""
        views = features.double()
        unit = functional.normalize(views, dim=-1)
        rows = unit if self.solved.maps.hidden.normalise else views
        if self.hidden is not None:
            rows = functional.relu(rows @ self.hidden)
        first = self.ridge(rows).mean(0)
        balance = self.solved.balance
        if balance is None:
            return first.softmax(-1)
        if self.plain is not None:
            second = self.plain(unit.mean(0))
            return (balance.first * first + balance.second * second).softmax(-1)
        assert self.text is not None
        cosines = TEXT_SCALE * (unit @ self.text.T).mean(0)
        return (balance.first * cosines + balance.second * first).softmax(-1)


def _linear(given: Linear) -> Callable[[Tensor], Tensor]:
    """Return a linear classifier in torch: rows (..., M) to logits (..., K)."""
    weights, bias = torch.from_numpy(given.weights).double(), torch.from_numpy(given.bias).double()
    return lambda rows: given.scale * (rows @ weights + bias)
