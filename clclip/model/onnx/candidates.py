"""Boxes and scores of every class on every proposal, in fixed shapes, of each detector.

It is what ``Detector.predict`` does before the suppression of overlapping boxes, with ``route:
all``, for B images at once: a proposal that is missing has the score ``ABSENT`` and an empty box,
where ``predict`` has shorter lists.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from clclip.clip.cost_volume import cost_volume
from clclip.core.errors import InputError
from clclip.detection.layers.path import REGION, SharedPath
from clclip.detection.layers.region_maps import _bilinear
from clclip.detection.layers.regions import CODER
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.clclip.pathways import Pathways
from clclip.detection.methods.detector import Detector
from clclip.detection.methods.two_stage import TwoStageDetector
from clclip.model.onnx.suppression import ABSENT, survivors
from clclip.model.use.merged import Merged

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


def candidates(detector: Detector, canvases: Canvases) -> Iterator[Candidates]:
    """Yield the candidates of a detector, path by path.

    Raises:
        InputError: if nothing is known of such a detector.
    """
    if isinstance(detector, TwoStageDetector):
        yield _two_stage(detector, canvases)
    elif isinstance(detector, ClClip):
        bases: dict[int, Levels] = {}  # the first levels of each line
        for index, path in enumerate(detector.shared_paths()):
            shared = len(detector.paths) == 1
            tasks = range(len(detector.groups)) if shared else [index]
            levels = path.levels(canvases.taps, bases.get(detector.origins[index]))
            bases.setdefault(detector.origins[index], levels)
            yield from _pathways(detector, path, levels, canvases, tasks, 0)
    elif isinstance(detector, Merged):
        for line in detector.lines:
            base, paths = None, line.network.shared_paths()
            for part in line.parts:
                levels = paths[part].levels(canvases.taps, base)
                base = base or levels
                yield from _pathways(
                    line.network, paths[part], levels, canvases, [part], line.first
                )
    else:
        what = f"a detector {type(detector).__name__}"
        raise InputError(what, "--onnx", "F-ViT, CL-CLIP or one built on them")


# ---- what all share -----------------------------------------------------------------------------


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


# ---- F-ViT and its kin --------------------------------------------------------------------------


def _two_stage(detector: TwoStageDetector, canvases: Canvases) -> Candidates:
    """Return the candidates of all classes; the boxes of a proposal are one box."""
    path, s = detector.path, detector.options
    levels = path.levels(canvases.taps)
    boxes, present = propose(path, levels, canvases.extents)
    vectors = path.vectors(region_features(path, levels, boxes))
    scores = detector.classifier(vectors, detector.text).softmax(-1)[:, :-1]
    if s.fusion:
        clip = _frozen_scores(detector, canvases.dense, boxes)
        scores = scores.pow(1 - s.fusion) * clip.pow(s.fusion)
    count = scores.shape[1]
    scores = scores.view(*present.shape, count).transpose(1, 2)  # (B, K, N)
    moved = refined(boxes, path.box(vectors).view(boxes.shape), canvases.extents)
    return Candidates(
        moved[:, None].expand(-1, count, -1, -1),
        scores.masked_fill(~present[:, None], ABSENT),
        list(range(count)),
    )


def _frozen_scores(detector: TwoStageDetector, dense: Tensor, boxes: Tensor) -> Tensor:
    """Return what the frozen CLIP says of regions, (B N, K), as ``TwoStageDetector`` fuses it."""
    rows, columns = _axes(dense, boxes, detector.stride)
    pooled = torch.einsum("bdhw,bnh,bnw->bnd", dense, rows.mean(2), columns.mean(2))
    pooled = functional.normalize(pooled.flatten(0, 1), dim=-1)
    return (detector.options.fusion_temperature * pooled @ detector.text.T).softmax(-1)


# ---- CL-CLIP ------------------------------------------------------------------------------------


def _pathways(
    model: Pathways,
    path: SharedPath,
    levels: Levels,
    canvases: Canvases,
    tasks: Sequence[int],
    first: int,
) -> Iterator[Candidates]:
    """Yield the candidates of the tasks whose experts read one path.

    Args:
        model: the detector, or one line of a merged one.
        path: the path.
        levels: its pyramid.
        canvases: the images.
        tasks: 0-based tasks.
        first: the column of the model's first class.
    """
    proposals = propose(path, levels, canvases.extents, model.options.objectness)
    features = region_features(path, levels, proposals.boxes)
    vectors = path.vectors(features)
    deltas = path.box(vectors).view(proposals.boxes.shape)
    shared = refined(proposals.boxes, deltas, canvases.extents)
    for task in tasks:
        classes = model.classes_of(task)
        logits, prior, own = _experts(model, task, canvases.dense, proposals, features)
        if path.text is not None:
            text, _ = model.text_scores(path, vectors, task)
            odds = text.view(*proposals.present.shape, -1).transpose(1, 2)
            logits = path.text.join(logits, odds)
        score = logits.sigmoid()
        if a := model.options.fusion:
            if model.options.fusion_score == "share":
                clip = _shares(model, classes, canvases.dense, proposals.boxes)
            else:
                clip = model.gate.score(prior)
            score = score.pow(1 - a) * clip.pow(a)
        there = proposals.present[:, None] & _scored(model, prior)
        boxes = shared[:, None].expand(*score.shape, 4)
        if own is not None:
            boxes = refined(proposals.boxes[:, None].expand(*score.shape, 4), own, canvases.extents)
        columns = [first + column for column in range(classes.start, classes.stop)]
        yield Candidates(boxes, score.masked_fill(~there, ABSENT), columns)


def _experts(
    model: Pathways, task: int, dense: Tensor, proposals: Proposals, features: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return logits and priors (B, K, N) of a task's experts, and box deltas (B, K, N, 4)."""
    s, bank = model.options, model.bank_of(task)
    batch, count = proposals.present.shape
    cost, gate = model.gates(dense, model.classes_of(task))
    rows, columns = _axes(dense, proposals.boxes, model.stride)
    prior = torch.einsum("bkhw,bnh,bnw->bkn", cost.float(), rows.mean(2), columns.mean(2))
    logits, deltas = [], []
    for k in range(cost.shape[1]):
        expert = k if s.experts else 0
        across = (rows.flatten(1, 2) @ gate[:, k].float()).unflatten(1, (count, REGION))
        bins = across @ columns.transpose(2, 3)  # (B, N, 7, 7)
        x = features * (s.gate_floor + bins.flatten(0, 1)[:, None])
        for conv, bias in zip(bank.convs, bank.conv_bias, strict=True):
            x = functional.relu(functional.conv2d(x, conv[expert], bias[expert], padding=1))
        flat = x.flatten(1)
        raw = (flat @ bank.score[expert]).view(batch, count)
        logits.append(raw + bank.beta[expert] * prior[:, k] + bank.bias[expert])
        if bank.box is not None:
            deltas.append((flat @ bank.box[expert].T).view(batch, count, 4))
    return torch.stack(logits, 1), prior, torch.stack(deltas, 1) if deltas else None


def _shares(model: Pathways, classes: slice, dense: Tensor, boxes: Tensor) -> Tensor:
    """Return the shares (B, K, N) of a task's classes among those known when it ended."""
    cost = cost_volume(dense, model.text[: classes.stop])
    rows, columns = _axes(dense, boxes, model.stride)
    prior = torch.einsum("bkhw,bnh,bnw->bnk", cost.float(), rows.mean(2), columns.mean(2))
    share = model.gate.share(prior.flatten(0, 1)).view_as(prior)
    return share[..., classes].exp().transpose(1, 2)


def _axes(maps: Tensor, boxes: Tensor, stride: float) -> tuple[Tensor, Tensor]:
    """Return the weights (B, N, 7, h) and (B, N, 7, w) by which regions read maps."""
    batch, flat = boxes.shape[0], boxes.reshape(-1, 4)
    height, width = maps.shape[-2:]
    rows = _bilinear(flat[:, 1], flat[:, 3], height, stride)
    columns = _bilinear(flat[:, 0], flat[:, 2], width, stride)
    return rows.view(batch, -1, REGION, height), columns.view(batch, -1, REGION, width)


def _scored(model: Pathways, prior: Tensor) -> Tensor:
    """Return which pairs (B, K, N) are scored: all, or those under ``route_cap``."""
    cap = model.options.route_cap
    if not cap or cap >= prior.shape[1]:
        return torch.ones_like(prior, dtype=torch.bool)
    best = prior.topk(cap, dim=1).indices
    return torch.zeros_like(prior).scatter(1, best, 1.0) > 0
