"""The losses of CL-CLIP that are not torchvision's, as free functions (CL-CLIP, items 4 to 7)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from clclip.detection.layers.pyramid import feature_drift
from clclip.detection.layers.regions import CODER, SampledRegions
from clclip.detection.methods.clclip.orthogonality import orthogonality_loss


def score_loss(logits: Tensor, target: Tensor, mode: str) -> Tensor:
    """Return the one-vs-rest loss of pairs, per positive.

    Args:
        logits: (N,) scores of the pairs.
        target: (N,) in {0, 1}.
        mode: "bce" or "focal" (torchvision's: alpha 0.25, gamma 2).
    """
    positives = target.sum().clamp(min=1.0)
    if mode == "focal":
        return sigmoid_focal_loss(logits, target, reduction="sum") / positives
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return loss / positives


def expert_box_loss(
    deltas: Tensor, sampled: SampledRegions, region: Tensor, target: Tensor
) -> Tensor:
    """Return the smooth-L1 loss of the experts' own box deltas (N, 4) on positive pairs."""
    positive = target > 0
    boxes = torch.cat(sampled.boxes)
    wanted = CODER.encode_single(sampled.matched[region[positive]], boxes[region[positive]])
    loss = functional.smooth_l1_loss(deltas[positive].float(), wanted, beta=1 / 9, reduction="sum")
    return loss / max(len(boxes), 1)


def drift_loss(
    path: nn.Module,
    reference: nn.Module,
    levels: OrderedDict[str, Tensor],
    taps: Sequence[Tensor],
    mode: str,
) -> Tensor:
    """Return L_drift between the path and its frozen copy from before the task (item 5).

    Args:
        path: the shared path in training.
        reference: the frozen copy.
        levels: the path's pyramid of this batch.
        taps: the tower's taps of this batch.
        mode: "feature" (sum_l mean |P_l - P_l'|^2), "parameter" (sum |theta - theta'|^2) or "both".
    """
    terms = []
    if mode in ("feature", "both"):
        with torch.no_grad():
            before = reference.levels(taps)
        terms.append(feature_drift(levels, before))
    if mode in ("parameter", "both"):
        pairs = zip(path.parameters(), reference.parameters(), strict=True)
        terms.append(torch.stack([(a - b).pow(2).sum() for a, b in pairs]).sum())
    return torch.stack(terms).sum()


def map_orthogonality(
    finest: Tensor, gate: Tensor, labels: Sequence[Tensor], offset: int
) -> tuple[Tensor, int]:
    """Return L_orth on the maps that the gates admit, mean_channels |P_0| * gate, and its pairs.

    Args:
        finest: (B, C, H, W) finest pyramid level; the gradient flows through it, because gates are
            frozen.
        gate: (B, K, h, w) gates of ALL seen classes.
        labels: per image the current-class indices of its objects.
        offset: number of previous classes.
    """
    energy = functional.adaptive_avg_pool2d(finest.abs().mean(1, keepdim=True), gate.shape[-2:])
    own, other = [], []
    for n, label in enumerate(labels):
        for column in (torch.unique(label) + offset).tolist():
            rest = [k for k in range(gate.shape[1]) if k != column]
            admitted = energy[n] * gate[n]  # (K, h, w)
            own.append(admitted[column].expand(len(rest), -1, -1))
            # another class's map is a target, not something to change
            other.append(admitted[rest].detach())
    if not own:
        return finest.new_zeros(()), 0
    return orthogonality_loss(torch.cat(own), torch.cat(other)), sum(map(len, own))
