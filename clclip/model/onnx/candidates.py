"""Boxes and scores of every class on every proposal, in fixed shapes, of each detector.

It is what ``Detector.predict`` does before the suppression of overlapping boxes, with ``route:
all``, for B images at once: a proposal that is missing has the score ``ABSENT`` and an empty box,
where ``predict`` has shorter lists.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from clclip.core.errors import InputError
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.detector import Detector
from clclip.detection.methods.two_stage import TwoStageDetector
from clclip.model.onnx.pathways import path_candidates
from clclip.model.onnx.regions import Candidates, Canvases, axes, propose, refined, region_features
from clclip.model.onnx.suppression import ABSENT
from clclip.model.use.merged import Merged


def candidates(detector: Detector, canvases: Canvases) -> Iterator[Candidates]:
    """Yield the candidates of a detector, path by path.

    Raises:
        InputError: if nothing is known of such a detector.
    """
    if isinstance(detector, TwoStageDetector):
        yield _two_stage(detector, canvases)
    elif isinstance(detector, ClClip):
        yield from path_candidates(detector, canvases, range(len(detector.paths)), 0)
    elif isinstance(detector, Merged):
        for line in detector.lines:
            yield from path_candidates(line.network, canvases, line.parts, line.first)
    else:
        what = f"a detector {type(detector).__name__}"
        raise InputError(what, "--onnx", "F-ViT, CL-CLIP or one built on them")


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
    rows, columns = axes(dense, boxes, detector.stride)
    pooled = torch.einsum("bdhw,bnh,bnw->bnd", dense, rows.mean(2), columns.mean(2))
    pooled = functional.normalize(pooled.flatten(0, 1), dim=-1)
    return (detector.options.fusion_temperature * pooled @ detector.text.T).softmax(-1)
