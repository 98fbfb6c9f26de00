"""Proposals and region features of a path in fixed shapes, B images at once.

A proposal that is missing has the score ``ABSENT`` and an empty box, where a detector has shorter
lists.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import roi_align

from clclip.detection.layers.path import REGION, SharedPath
from clclip.detection.layers.region_maps import _bilinear
from clclip.detection.layers.regions import CODER
from clclip.model.onnx.suppression import ABSENT, survivors

Levels = OrderedDict[str, Tensor]


class Canvases(NamedTuple):
    """What the tower says of B images, and where their content ends.

    Attributes:
        taps: per level (B, C, h, w).
        dense: (B, d, h, w).
        extents: (B, 2) height and width of the content, float.
    """

    taps: Sequence[Tensor]
    dense: Tensor
    extents: Tensor


class Candidates(NamedTuple):
    """Boxes of K classes on N proposals.

    Attributes:
        boxes: (B, K, N, 4) xyxy on the canvas.
        scores: (B, K, N), or ``ABSENT``.
        columns: the K columns among the seen classes.
    """

    boxes: Tensor
    scores: Tensor
    columns: list[int]


class Proposals(NamedTuple):
    """N proposals of B images: boxes (B, N, 4), and which of them there are (B, N)."""

    boxes: Tensor
    present: Tensor


def propose(
    path: SharedPath, levels: Levels, extents: Tensor, objectness: float = 0.0
) -> Proposals:
    """Return the proposals of a path, as torchvision's RPN does: the best, of each level apart.

    Args:
        path: the path.
        levels: its pyramid.
        extents: (B, 2) height and width of each image on the canvas.
        objectness: the smallest of a proposal (CL-CLIP, ``objectness``).
    """
    rpn = path.rpn
    maps = list(levels.values())
    presences, deltas = rpn.head(maps)
    generator = rpn.anchor_generator
    strides = [[torch.tensor(stride)] * 2 for stride in generator.strides]
    anchors = generator.grid_anchors([list(level.shape[-2:]) for level in maps], strides)
    boxes, scores = [], []
    for presence, delta, anchor in zip(presences, deltas, anchors, strict=True):
        batch = presence.shape[0]
        logit = presence.permute(0, 2, 3, 1).reshape(batch, -1)
        delta = delta.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
        best, place = logit.topk(min(rpn.pre_nms_top_n(), logit.shape[1]), dim=1)
        rows = place[..., None].expand(-1, -1, 4)
        chosen, origin = delta.gather(1, rows), anchor[place]
        moved = rpn.box_coder.decode_single(chosen.reshape(-1, 4), origin.reshape(-1, 4))
        box = within(moved.view(batch, -1, 4), extents)
        score = best.sigmoid()
        dropped = (sides(box) < rpn.min_size).any(-1) | (score < objectness)
        score = score.masked_fill(dropped, ABSENT)
        boxes.append(box)
        scores.append(score.masked_fill(~survivors(box, score, rpn.nms_thresh), ABSENT))
    box, score = torch.cat(boxes, 1), torch.cat(scores, 1)
    best, place = score.topk(min(rpn.post_nms_top_n(), score.shape[1]), dim=1)
    present = best > ABSENT
    box = box.gather(1, place[..., None].expand(-1, -1, 4))
    return Proposals(box.masked_fill(~present[..., None], 0.0), present)


def sides(boxes: Tensor) -> Tensor:
    """Return width and height (..., 2) of boxes (..., 4)."""
    return boxes[..., 2:] - boxes[..., :2]


def within(boxes: Tensor, extents: Tensor) -> Tensor:
    """Return boxes (B, ..., 4) cut to their image's extent (B, 2), height and width."""
    limit = extents.flip(1).repeat(1, 2)
    limit = limit.view(-1, *[1] * (boxes.ndim - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limit)


def refined(boxes: Tensor, deltas: Tensor, extents: Tensor) -> Tensor:
    """Return boxes (B, ..., 4) moved by deltas of the same shape, and cut."""
    moved = CODER.decode_single(deltas.reshape(-1, 4).float(), boxes.reshape(-1, 4))
    return within(moved.view(boxes.shape), extents)


def region_features(path: SharedPath, levels: Mapping[str, Tensor], boxes: Tensor) -> Tensor:
    """Return the region features (B N, C, 7, 7) of boxes (B, N, 4).

    Each level is read in all regions; those of other levels are empty there and cost nothing.
    """
    batch, count = boxes.shape[:2]
    flat = boxes.reshape(-1, 4)
    owner = torch.arange(batch, dtype=flat.dtype)[:, None].expand(batch, count).reshape(-1, 1)
    level, pooled = path.pooler.map_levels([flat]), None
    for index, (maps, scale) in enumerate(zip(levels.values(), path.pooler.scales, strict=False)):
        at_level = (level == index)[:, None]
        regions = torch.cat([owner, torch.where(at_level, flat, 0.0)], dim=1)
        part = roi_align(maps, regions, REGION, scale, aligned=True)
        pooled = part if pooled is None else torch.where(at_level[..., None, None], part, pooled)
    assert pooled is not None  # a pyramid has a level
    return path.convs(pooled)


def axes(maps: Tensor, boxes: Tensor, stride: float) -> tuple[Tensor, Tensor]:
    """Return the weights (B, N, 7, h) and (B, N, 7, w) by which regions read maps."""
    batch, flat = boxes.shape[0], boxes.reshape(-1, 4)
    height, width = maps.shape[-2:]
    rows = _bilinear(flat[:, 1], flat[:, 3], height, stride)
    columns = _bilinear(flat[:, 0], flat[:, 2], width, stride)
    return rows.view(batch, -1, REGION, height), columns.view(batch, -1, REGION, width)
