"""Losses against the model from before the task, as free functions (MMA, ABR).

Here too are the cross-entropies in which "background" may hide an old class. Columns of
logits: previous classes, current classes, background last; a teacher has no current classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.rpn import concat_box_prediction_layers

from clclip.detection.layers.path import SharedPath


def unbiased_cross_entropy(
    logits: Tensor, column: Tensor, previous: int, old_label: str = "ce"
) -> Tensor:
    """Return the mean over regions of the cross-entropy in which background may be an old class.

    A region of a new class c loses -log p_c; background -log(p_bg + sum_old p), so that nothing
    pushes old classes down there (MMA's unbiased, ABR's inclusive classification loss).

    Args:
        logits: (R, K + 1).
        column: (R,) column of the label, negative for background.
        previous: number of previous classes.
        old_label: what a region labelled with an old class loses: "ce", -log p_c, or "zero" as in
            ABR's released code; it counts in the mean either way.
    """
    if not len(logits):
        return logits.sum()
    log_p = logits.float().log_softmax(-1)
    rest = torch.cat([log_p[:, :previous], log_p[:, -1:]], dim=1).logsumexp(1)
    own = log_p.gather(1, column.clamp(min=0)[:, None])[:, 0]
    loss = -torch.where(column < 0, rest, own)
    if old_label == "zero":
        loss = torch.where((column >= 0) & (column < previous), loss * 0, loss)
    return loss.mean()


def unbiased_distillation(student: Tensor, teacher: Tensor, previous: int) -> Tensor:
    """Return MMA's distillation of region scores, less the teacher's entropy.

    1/(|old|+1) * mean_r [ q_bg log(q_bg/(p_bg + sum_new p)) + sum_old q_c log(q_c/p_c) ]: the
    published cross-entropy up to a constant, so that equal scores lose nothing.

    Args:
        student: (R, K + 1) logits.
        teacher: (R, previous + 1) logits.
        previous: number of previous classes.
    """
    if not len(student):
        return student.sum()
    log_p = student.float().log_softmax(-1)
    rest = log_p[:, previous:].logsumexp(1, keepdim=True)  # new classes and background
    log_p = torch.cat([log_p[:, :previous], rest], dim=1)
    log_q = teacher.float().log_softmax(-1)
    return functional.kl_div(log_p, log_q, log_target=True, reduction="sum") / log_p.numel()


def rpn_outputs(path: SharedPath, levels: OrderedDict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return objectness logits (B, A) and deltas (B, A, 4) of all anchors, in anchor order."""
    maps = list(levels.values())
    objectness, deltas = concat_box_prediction_layers(*path.rpn.head(maps))
    count = len(maps[0])
    return objectness.view(count, -1).float(), deltas.view(count, -1, 4).float()


def proposal_distillation(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], gap: float = 0.1
) -> Tensor:
    """Return MMA's distillation of proposals.

    The squared positive part of (teacher - student) objectness, and the squared difference of
    deltas where that gap exceeds ``gap``, both as means over anchors. Differences are of logits.
    """
    missing = (teacher[0] - student[0]).clamp(min=0)
    moved = (teacher[1] - student[1]).pow(2).sum(-1)
    return missing.pow(2).mean() + (moved * (missing.detach() > gap)).mean()


@torch.no_grad()
def drawn_regions(
    proposals: Sequence[Tensor], generators: Sequence[torch.Generator], best: int, drawn: int
) -> list[Tensor]:
    """Return, per image, ``drawn`` at random of the ``best`` first proposals (N_i, 4)."""
    chosen = []
    for boxes, draws in zip(proposals, generators, strict=True):
        order = torch.randperm(min(best, len(boxes)), generator=draws)[:drawn]
        chosen.append(boxes[order.to(boxes.device)])
    return chosen


def attention_map(features: Tensor) -> Tensor:
    """Return ABR's attention of regions (R, C, h, w): h w * softmax over places of mean |F|^2."""
    energy = features.float().pow(2).mean(1).flatten(1)
    return energy.softmax(1).mul(energy.shape[1]).view(-1, *features.shape[-2:])


def attentive_distillation(student: Tensor, teacher: Tensor, gamma: float) -> Tensor:
    """Return ABR's attentive RoI distillation L_AFD + gamma * L_PAD.

    L_AFD = mean (sqrt(A_T) F_S - sqrt(A_T) F_T)^2, L_PAD = mean |A_S - A_T|.

    Args:
        student: (R, C, h, w) region features.
        teacher: the same of the teacher.
        gamma: weight of the attention maps.
    """
    if not len(student):
        return student.sum()
    wanted = attention_map(teacher)
    difference = wanted.unsqueeze(1) * (student.float() - teacher.float()).pow(2)
    return difference.mean() + gamma * (attention_map(student) - wanted).abs().mean()


def published_weight(new_classes: int) -> float:
    """Return the weight of region distillation in MMA and ABR: 1 to 2 classes 1, 5 0.5, 10 0.1.

    Between the published points the next larger one counts.
    """
    return 1.0 if new_classes <= 2 else 0.5 if new_classes <= 5 else 0.1
