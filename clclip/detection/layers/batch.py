"""One batch of images as the detectors see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList


@dataclass(frozen=True)
class Batch:
    """Frozen features of B images on one canvas size, and in training their labels.

    Attributes:
        taps: per level (B, C, h, w), the outputs of some blocks of the tower.
        dense: (B, d, h, w) dense tokens, unit norm.
        canvas: canvas size and the extent of each image's content.
        targets: per image "boxes" (G, 4) xyxy on the canvas, "labels" (G,) index of the CURRENT
            class, "ignore" (I, 4); empty at inference.
        generators: one per image, for every random draw about that image.
    """

    taps: Sequence[Tensor]
    dense: Tensor
    canvas: ImageList
    targets: list[dict[str, Tensor]] = field(default_factory=list)
    generators: Sequence[torch.Generator] = ()

    def of(self, images: Sequence[int]) -> Batch:
        """Return the batch of some of its images, by their places."""
        if len(images) == len(self.canvas.image_sizes):
            return self
        index = torch.tensor(images, device=self.dense.device)
        sizes = [self.canvas.image_sizes[n] for n in images]
        return replace(
            self,
            taps=[tap[index] for tap in self.taps],  # index_select would change the layout
            dense=self.dense.index_select(0, index),
            canvas=ImageList(self.canvas.tensors.index_select(0, index), sizes),
            targets=[self.targets[n] for n in images] if self.targets else [],
            generators=[self.generators[n] for n in images] if self.generators else (),
        )

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; the generators stay on the CPU, as their draws do."""
        if device.type == "cpu":
            return self
        canvas = ImageList(self.canvas.tensors.to(device), self.canvas.image_sizes)
        return replace(
            self,
            taps=[tap.to(device, non_blocking=True) for tap in self.taps],
            dense=self.dense.to(device, non_blocking=True),
            canvas=canvas,
            targets=[{k: v.to(device) for k, v in target.items()} for target in self.targets],
        )
