"""A detector with its tower as ONNX: from pixels to boxes, scores and classes.

Inputs: ``images`` float32 (B, 3, S, S), RGB of 0..255, each resized so that its longer side is S
and lying at the top left (what lies beyond is not looked at); ``sizes`` int64 (B, 2), height and
width before that. Outputs, N of all images one after the other, by falling score within an image:
``boxes`` (N, 4) xyxy in pixels of the image before resizing, ``scores`` (N,), ``classes`` (N,)
int64, places in ``names``, and ``image`` (N,) int64, the place in the batch. B and N are free, N
may be 0.

Every class is scored in every region (``route: all``), and scores are calibrated where the model
is. Metadata: ``names``, ``thresholds``, ``categories``, ``preprocessing`` (JSON), ``method``,
``clip``, ``clclip``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

import clclip
from clclip.core.errors import InputError
from clclip.model.onnx.agreement import agreement, canvases, probes
from clclip.model.onnx.regions import Canvases
from clclip.model.onnx.selection import best_detections, score_maps
from clclip.model.onnx.suppression import ABSENT, translations
from clclip.model.onnx.writing import any_number_of_images, write_graph
from clclip.model.use.detection import DetectionModel

INPUTS = ["images", "sizes"]
OUTPUTS = ["boxes", "scores", "classes", "image"]
AGREEMENT = 0.99
"""Share of detections that must be the same as torch's."""

INPUT = (
    "images: float32 (B, 3, S, S), RGB of 0..255; sizes: int64 (B, 2), height and width of the "
    "image before it was resized"
)
OUTPUT = "boxes xyxy in pixels of the image before it was resized; image: its place in the batch"


def export_detector(model: DetectionModel, path: Path) -> float:
    """Write a detector as ONNX, and hold it against torch.

    Args:
        model: a detector, on a CPU.
        path: the file.

    Returns:
        the share of detections in which it agrees with the model under ``route: all``.

    Raises:
        InputError: if the tower cannot be exported, or the file does not agree with torch.
    """
    network = DetectorNetwork(model).eval()
    pictures = probes(network.side)
    images, sizes = map(torch.from_numpy, canvases(pictures[:2], network.side))
    batch = torch.export.Dim("batch")
    with (
        any_number_of_images(model.features.tower.trunk),
        write_graph(
            network,
            (images, sizes),
            path,
            metadata(model),
            names=(INPUTS, OUTPUTS),
            dynamic={"images": {0: batch}, "sizes": {0: batch}},
            translations=translations(),
        ) as written,
    ):
        share = agreement(written, model, pictures)
        if share < AGREEMENT:
            what = f"an ONNX file that agrees with torch in {share:.1%} of detections"
            raise InputError(what, path, f"{AGREEMENT:.0%}; this tower cannot be exported")
    return share


def metadata(model: DetectionModel) -> dict[str, str]:
    """Return what the file says of itself: texts only, as ONNX has them."""
    steps = {**model.card["preprocessing"], "side": model.features.size}
    steps |= {"range": "0..255, RGB, upright by EXIF", "input": INPUT, "output": OUTPUT}
    return {
        "names": json.dumps(model.classes),
        "thresholds": json.dumps(model.thresholds),
        "categories": json.dumps(model.card["categories"]),
        "preprocessing": json.dumps(steps),
        "method": str(model.card["method"]),
        "clip": json.dumps(model.card["clip"]),
        "clclip": clclip.__version__,
    }


class DetectorNetwork(nn.Module):
    """A detector from canvases and the images' sizes to detections, its tower inside.

    Raises:
        InputError: if the method has no such network.
    """

    def __init__(self, model: DetectionModel) -> None:
        super().__init__()
        self.tower, self.detector = model.features.tower, model.detector
        self.tower.visual.requires_grad_(False)
        self.side, self.limit = model.features.size, model.limit
        self.mean, self.std = model.features.mean, model.features.std
        self.labels: list[int] = model._label[: model._columns].tolist()
        self.maps = score_maps(model.calibrated, model.classes)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return boxes (N, 4), scores (N,), classes (N,) and places in the batch (N,)."""
        scale = self.side / sizes.double().amax(1, keepdim=True)
        extents = (sizes.double() * scale).round().clamp(min=1).float()
        canvases = self.normalised(images, extents)
        features = self.tower(canvases)
        shown = Canvases(features.taps, features.dense, extents)
        boxes, scores, classes = best_detections(
            self.detector, shown, self.labels, self.limit, self.maps
        )
        boxes = boxes / scale.float()[..., None]
        whole = sizes.float().flip(1).repeat(1, 2)[:, None]
        boxes = torch.minimum(boxes, whole)
        image, place = torch.where(scores > ABSENT)
        return boxes[image, place], scores[image, place], classes[image, place], image

    def normalised(self, images: Tensor, extents: Tensor) -> Tensor:
        """Return what the tower sees: zeros beyond the content."""
        at = torch.arange(self.side, dtype=extents.dtype)
        rows, columns = (at < extents[:, i, None] for i in (0, 1))  # (B, S)
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(inside, (images / 255 - self.mean) / self.std, 0.0)
