"""Recall of the class-agnostic proposals; it drops where old objects become background."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.path import SharedPath
from clclip.detection.methods.detector import Detector


@torch.no_grad()
def proposals_of(
    model: Detector, batch: Batch
) -> list[tuple[SharedPath, OrderedDict[str, Tensor], list[Tensor]]]:
    """Return per path: the path, its levels, and its proposals (N_i, 4) per image."""
    result, base = [], None
    for path in model.shared_paths():
        levels = path.levels(batch.taps, base)
        base = base or levels
        result.append((path, levels, path.propose(levels, batch.canvas)[0]))
    return result


def covered(
    per_path: Sequence[Sequence[Tensor]],
    targets: Sequence[Mapping[str, Tensor]],
    overlap: float = 0.5,
) -> list[Tensor]:
    """Tell, per image (G,) bool, which of its objects some path's proposals cover.

    Args:
        per_path: of every path, the proposals (N_i, 4) of each image.
        targets: of each image, "boxes" (G, 4) xyxy on the canvas.
        overlap: smallest IoU.
    """
    hits = []
    for n, target in enumerate(targets):
        proposals = torch.cat([boxes[n] for boxes in per_path])
        if not len(target["boxes"]) or not len(proposals):
            hits.append(torch.zeros(len(target["boxes"]), dtype=torch.bool))
            continue
        hits.append((box_iou(target["boxes"], proposals).amax(1) >= overlap).cpu())
    return hits


def recall_table(
    hits: Sequence[Tensor], labels: Sequence[Tensor], groups: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Return recall in percent of P, C, A (previous, current, all seen) and per class.

    Args:
        hits: per image (G,) bool.
        labels: per image (G,) columns of the seen classes.
        groups: class groups of tasks 1..t.

    Returns:
        {"P", "C", "A", "per_class"}; None where there is no object.
    """
    names = [name for group in groups for name in group]
    hit, label = torch.cat(list(hits)), torch.cat(list(labels)).cpu()
    per_class: Mapping[str, float | None] = {
        name: _percent(hit[label == k]) for k, name in enumerate(names)
    }
    current = len(names) - len(groups[-1])
    return {
        "P": _percent(hit[label < current]),
        "C": _percent(hit[label >= current]),
        "A": _percent(hit),
        "per_class": per_class,
    }


def _percent(hit: Tensor) -> float | None:
    return 100 * int(hit.sum()) / len(hit) if len(hit) else None
