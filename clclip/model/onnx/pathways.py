"""Boxes and scores of CL-CLIP's classes on every proposal, in fixed shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from clclip.clip.cost_volume import cost_volume
from clclip.detection.layers.path import REGION, SharedPath
from clclip.detection.methods.clclip.pathways import Pathways
from clclip.model.onnx.regions import (
    Candidates,
    Canvases,
    Levels,
    Proposals,
    axes,
    propose,
    refined,
    region_features,
)
from clclip.model.onnx.suppression import ABSENT


class First(NamedTuple):
    """What the later paths of a line read of its first one.

    Attributes:
        levels: its pyramid.
        proposals: its proposals.
        logits: of later classes' texts (K, d) -> (B N, K1 + K + 1), background last.
        texts: (K1, d) of its own classes.
    """

    levels: Levels
    proposals: Proposals
    logits: Callable[[Tensor], Tensor]
    texts: Tensor


def path_candidates(
    model: Pathways, canvases: Canvases, parts: Iterable[int], first: int
) -> Iterator[Candidates]:
    """Yield the candidates of paths, in order; a path that rests on an image has none on it.

    Args:
        model: the detector, or one line of a merged one.
        canvases: the images.
        parts: 0-based places of the paths.
        first: the column of the model's first class.
    """
    lines: dict[int, First] = {}
    for index in parts:
        path, line = model.shared_paths()[index], lines.get(model.origins[index])
        levels = path.levels(canvases.taps, line and line.levels)
        proposals = propose(path, levels, canvases.extents, model.options.objectness)
        features = region_features(path, levels, proposals.boxes)
        vectors = path.vectors(features)
        if line is None:
            lines[index] = _first(model, path, index, levels, proposals, vectors)
        tasks = range(len(model.groups)) if len(model.paths) == 1 else [index]
        for made in _pathways(model, path, canvases, proposals, features, vectors, tasks, first):
            awake = line and _awake(model, index, canvases.dense, line)
            if awake is not None:
                made = made._replace(scores=made.scores.masked_fill(~awake[:, None, None], ABSENT))
            yield made


def _first(
    model: Pathways,
    path: SharedPath,
    index: int,
    levels: Levels,
    proposals: Proposals,
    vectors: Tensor,
) -> First:
    own = model.text[model.classes_of(index)]

    def logits(text: Tensor) -> Tensor:
        assert path.text is not None  # without one nothing rests
        return path.text.classifier(vectors, torch.cat([own, text])).float()

    return First(levels, proposals, logits, own)


def _awake(model: Pathways, index: int, dense: Tensor, line: First) -> Tensor | None:
    """Return the images (B,) on which a path does not rest; None: it never does."""
    rest = model.rest_of(index)
    if rest is None:
        return None
    text = model.text[model.classes_of(index)]
    boxes, present = line.proposals
    rows, columns = axes(dense, boxes, model.stride)
    cost = cost_volume(dense, torch.cat([line.texts, text])).float()
    costs = torch.einsum("bkhw,bnh,bnw->bnk", cost, rows.mean(2), columns.mean(2))
    evidence = torch.cat([line.logits(text).log_softmax(1), costs.flatten(0, 1)], dim=1)
    likely = rest.likely(evidence).view(*present.shape, -1)  # (B, N, K)
    best = likely.masked_fill(~present[..., None], 0.0).amax(1)
    return (best >= rest.threshold).any(1)


def _pathways(
    model: Pathways,
    path: SharedPath,
    canvases: Canvases,
    proposals: Proposals,
    features: Tensor,
    vectors: Tensor,
    tasks: Sequence[int],
    first: int,
) -> Iterator[Candidates]:
    """Yield the candidates of the tasks whose experts read one path.

    Args:
        model: the detector, or one line of a merged one.
        path: the path.
        canvases: the images.
        proposals: its proposals.
        features: (B N, C, 7, 7) of them.
        vectors: (B N, fc_width) of them.
        tasks: 0-based tasks.
        first: the column of the model's first class.
    """
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
    rows, columns = axes(dense, proposals.boxes, model.stride)
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
    rows, columns = axes(dense, boxes, model.stride)
    prior = torch.einsum("bkhw,bnh,bnw->bnk", cost.float(), rows.mean(2), columns.mean(2))
    share = model.gate.share(prior.flatten(0, 1)).view_as(prior)
    return share[..., classes].exp().transpose(1, 2)


def _scored(model: Pathways, prior: Tensor) -> Tensor:
    """Return which pairs (B, K, N) are scored: all, or those under ``route_cap``."""
    cap = model.options.route_cap
    if not cap or cap >= prior.shape[1]:
        return torch.ones_like(prior, dtype=torch.bool)
    best = prior.topk(cap, dim=1).indices
    return torch.zeros_like(prior).scatter(1, best, 1.0) > 0
