"""Class-agnostic proposals: torchvision's RPN with per-image sampling and ignore zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.ops import batched_nms, box_iou, nms

from clclip.detection.layers.pyramid import laid_out

RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors
SHIFTED_NMS = {"cpu": 4000}  # numbers in the boxes up to which torchvision shifts levels apart
SHIFTED_NMS_ELSEWHERE = 100_000


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
        super().__init__(sizes, (RATIOS,) * len(sizes))
        self.strides = tuple(strides)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors (A, 4) xyxy of each image, in canvas pixels."""
        return [torch.cat(self.by_level(feature_maps))] * len(image_list.image_sizes)

    def by_level(self, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors (A, 4) xyxy of each level; others hold them too, so leave them be."""
        grids = tuple((int(m.shape[-2]), int(m.shape[-1])) for m in feature_maps)
        first = feature_maps[0]
        # bf16, the maps' type under autocast, would round corners beyond 256 px to even numbers
        dtype = torch.promote_types(first.dtype, torch.float32)
        return _anchors(self.sizes, self.strides, grids, dtype, first.device)


@lru_cache(maxsize=8)
def _anchors(
    sizes: tuple[tuple[float], ...],
    strides: tuple[float, ...],
    grids: tuple[tuple[int, int], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> list[Tensor]:
    """Return the anchors of each level; made once for all paths of a detector and all batches."""
    plain = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
    plain.set_cell_anchors(dtype, device)
    steps = [[torch.tensor(stride, dtype=dtype, device=device)] * 2 for stride in strides]
    return plain.grid_anchors([list(grid) for grid in grids], steps)


class Float32Head(RPNHead):
    """torchvision's RPN head whose outputs are float32 under autocast: box maths needs it."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return objectness and deltas of every level."""
        objectness, deltas = super().forward([laid_out(level) for level in x])
        return [o.float() for o in objectness], [d.float() for d in deltas]


class RegionProposals(RegionProposalNetwork):
    """torchvision's RPN; targets may hold ``ignore`` boxes, whose anchors are neither class.

    It proposes what torchvision's does, bit for bit, but decodes the anchors that are among the
    best of their level alone, and suppresses no farther than it has to.
    """

    def forward(
        self,
        images: ImageList,
        features: Mapping[str, Tensor],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return proposals (N_i, 4) xyxy per image and, in training, the losses."""
        maps = list(features.values())
        objectness, deltas = self.head(maps)
        proposals = self._proposed(images, maps, objectness, deltas)
        if targets is None:
            return proposals, {}
        anchors = self.anchor_generator(images, maps)
        logits, moves = concat_box_prediction_layers(objectness, deltas)
        labels, matched = self.assign_targets_to_anchors(anchors, targets)
        wanted = self._encoded(labels, torch.cat(matched), torch.cat(anchors))
        present, box = self.compute_loss(logits, moves, labels, [wanted])
        return proposals, {"loss_objectness": present, "loss_rpn_box_reg": box}

    @torch.no_grad()
    def _proposed(
        self, images: ImageList, maps: list[Tensor], objectness: list[Tensor], deltas: list[Tensor]
    ) -> list[Tensor]:
        """Return the proposals of a head's outputs."""
        anchors = self.anchor_generator.by_level(maps)
        parts = [
            best_of_level(*level, self.pre_nms_top_n())
            for level in zip(objectness, deltas, anchors, strict=True)
        ]
        logits, moves, origins = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        counts = [part[0].shape[1] for part in parts]
        level = torch.cat([moves.new_full((n,), k) for k, n in enumerate(counts)])
        boxes = self.box_coder.decode_single(moves.flatten(0, 1), origins.flatten(0, 1))
        extents = boxes.new_tensor([[w, h, w, h] for h, w in images.image_sizes])
        boxes = torch.minimum(boxes.view_as(moves).clamp(min=0), extents[:, None])
        scores = logits.sigmoid()
        large = (boxes[..., 2:] - boxes[..., :2] >= self.min_size).all(-1)
        proposals = []
        for own, score, keep in zip(
            boxes, scores, large & (scores >= self.score_thresh), strict=True
        ):
            group = level
            if not keep.all():  # it mostly does
                own, score, group = own[keep], score[keep], level[keep]
            best = best_survivors(own, score, group, self.nms_thresh, self.post_nms_top_n())
            proposals.append(own[best])
        return proposals

    def _encoded(self, labels: list[Tensor], matched: Tensor, anchors: Tensor) -> Tensor:
        """Return the deltas (A, 4) from anchors to objects; only those of objects have a loss."""
        wanted = torch.zeros_like(matched)
        positive = torch.where(torch.cat(labels) >= 1)[0]
        wanted[positive] = self.box_coder.encode_single(matched[positive], anchors[positive])
        return wanted

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


def best_of_level(
    objectness: Tensor, deltas: Tensor, anchors: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return objectness (B, n), deltas (B, n, 4) and anchors (B, n, 4) of the best of a level.

    Args:
        objectness: (B, A, h, w) logits.
        deltas: (B, A * 4, h, w).
        anchors: (h * w * A, 4).
        count: largest n.
    """
    shapes, cells = objectness.shape[1], objectness.shape[2] * objectness.shape[3]
    logits = objectness.permute(0, 2, 3, 1).flatten(1)
    best, place = logits.topk(min(count, logits.shape[1]), dim=1)
    channel = (place % shapes * 4)[..., None] + torch.arange(4, device=place.device)
    index = channel * cells + (place // shapes)[..., None]  # (B, n, 4), of the deltas as they lie
    moves = deltas.flatten(1).gather(1, index.flatten(1)).view(index.shape)
    return best, moves, anchors[place]


def best_survivors(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, count: int) -> Tensor:
    """Return ``batched_nms(boxes, scores, groups, iou)[:count]`` without suppressing the rest.

    What a box suppresses scores less, so the best survivors are known from the best boxes alone.

    Args:
        boxes: (N, 4) xyxy, not negative.
        scores: (N,).
        groups: (N,) boxes of one group alone suppress each other.
        iou: threshold.
        count: number of survivors wanted.
    """
    limit = SHIFTED_NMS.get(boxes.device.type, SHIFTED_NMS_ELSEWHERE)
    if boxes.numel() > limit or not len(boxes):  # above, it does not shift: other rounding
        return batched_nms(boxes, scores, groups, iou)[:count]
    ranked, order = scores.sort(descending=True, stable=True)
    apart = (boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None])[order]
    some = 3 * count
    while True:
        survivors = nms(apart[:some], ranked[:some], iou)
        if len(survivors) >= count or some >= len(order):
            return order[survivors[:count]]
        some *= 2


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
