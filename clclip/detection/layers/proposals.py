"""Class-agnostic proposals: torchvision's RPN with per-image sampling and ignore zones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import box_iou


class SeededSampler:
    """Balanced positive/negative sampling whose draws depend on the image, not on its batch.

    Same call as torchvision's ``BalancedPositiveNegativeSampler``.

    Args:
        size: samples per image.
        positive: largest share of positives among them.
    """

    def __init__(self, size: int, positive: float) -> None:
        self.size, self.positive = size, positive
        self.generators: Sequence[torch.Generator] = ()
        self.drawn = 0  # samples of the last call

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks of the sampled positives (label >= 1) and negatives (label 0) per image."""
        chosen_positive, chosen_negative = [], []
        self.drawn = 0
        for label, generator in zip(labels, self.generators, strict=True):
            positive = torch.where(label >= 1)[0]
            negative = torch.where(label == 0)[0]
            count = min(len(positive), int(self.size * self.positive))
            chosen_positive.append(self._mask(label, positive, count, generator))
            others = min(len(negative), self.size - count)
            chosen_negative.append(self._mask(label, negative, others, generator))
            self.drawn += count + others
        return chosen_positive, chosen_negative

    @staticmethod
    def _mask(label: Tensor, members: Tensor, count: int, generator: torch.Generator) -> Tensor:
        order = torch.randperm(len(members), generator=generator)[:count].to(label.device)
        mask = torch.zeros_like(label, dtype=torch.bool)
        mask[members[order]] = True
        return mask


class StridedAnchors(AnchorGenerator):
    """Anchors on strides that need not be whole numbers (3.5 for ViT-L/14).

    Args:
        strides: stride of each level in canvas pixels.
        anchor_size: anchor side in strides.
    """

    def __init__(self, strides: Sequence[float], anchor_size: float) -> None:
        sizes = tuple((anchor_size * stride,) for stride in strides)
        super().__init__(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
        self.strides = tuple(strides)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors (A, 4) xyxy of each image, in canvas pixels."""
        first = feature_maps[0]
        self.set_cell_anchors(first.dtype, first.device)
        strides = [[first.new_tensor(stride)] * 2 for stride in self.strides]
        grids = [list(feature_map.shape[-2:]) for feature_map in feature_maps]
        anchors = torch.cat(self.grid_anchors(grids, strides))
        return [anchors] * len(image_list.image_sizes)


class Float32Head(RPNHead):
    """torchvision's RPN head whose outputs are float32 under autocast: box maths needs it."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return objectness and deltas of every level."""
        objectness, deltas = super().forward(x)
        return [o.float() for o in objectness], [d.float() for d in deltas]


class RegionProposals(RegionProposalNetwork):
    """torchvision's RPN; targets may hold ``ignore`` boxes, whose anchors are neither class."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return labels (1 object, 0 background, -1 unused) and matched boxes per image."""
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            ignore = target.get("ignore")
            if ignore is not None and len(ignore):
                near = box_iou(anchor, ignore).amax(1) >= 0.3
                label[near & (label == 0)] = -1.0
        return labels, matched


def region_proposals(
    channels: int,
    strides: Sequence[float],
    anchor_size: float,
    *,
    batch: int,
    post_nms_train: int,
    post_nms_test: int,
) -> RegionProposals:
    """Return the RPN of F-ViT: one anchor scale a level, ratios 1/2, 1, 2.

    Args:
        channels: channels of the pyramid.
        strides: stride of each level in canvas pixels.
        anchor_size: anchor side in strides.
        batch: anchors sampled per image for the loss.
        post_nms_train: proposals per image after NMS in training.
        post_nms_test: proposals per image after NMS at inference.
    """
    anchors = StridedAnchors(strides, anchor_size)
    network = RegionProposals(
        anchors,
        Float32Head(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=batch,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2 * post_nms_train, "testing": 4 * post_nms_test},
        post_nms_top_n={"training": post_nms_train, "testing": post_nms_test},
        nms_thresh=0.7,
    )
    network.fg_bg_sampler = SeededSampler(batch, 0.5)
    return network


def canvas_list(batch: int, size: tuple[int, int], extents: Tensor) -> ImageList:
    """Return what torchvision's RPN and RoI pooling need to know of a batch of images.

    Args:
        batch: number of images.
        size: (height, width) of the canvas.
        extents: (B, 2) height and width of the image content on the canvas; proposals are clipped
            to it.
    """
    blank = torch.zeros(1, device=extents.device).expand(batch, 3, *size)  # holds no memory
    return ImageList(blank, [(int(h), int(w)) for h, w in extents.tolist()])
