"""SE-VPR: class means refined by the affinity of class texts (SECA, section 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Refinement(nn.Module):
    """Turns raw prototypes into refined prototypes; its weights live through all tasks.

    Args:
        width: width d of the joint space.
        gamma: sharpness of the affinity; None: 1 / (2 sqrt(d)).
        generator: draws the initial projection (uniform in +-1/sqrt(d)).
    """

    def __init__(
        self, width: int, gamma: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.gamma = gamma if gamma is not None else 1 / (2 * math.sqrt(width))
        self.norm_t, self.norm_v = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_p = nn.LayerNorm(width)
        bound = 1 / math.sqrt(width)
        self.h = nn.Parameter(
            torch.empty(width, width).uniform_(-bound, bound, generator=generator)
        )

    def affinity(self, text: Tensor) -> Tensor:
        """Return M (K, K) of texts (K, d): row k is softmax_j(-gamma |H LN(t_k) - H LN(t_j)|^2)."""
        e = F.linear(self.norm_t(text), self.h)  # (K, d)
        squared = (e[:, None] - e[None]).square().sum(dim=-1)  # (K, K); exact zeros on the diagonal
        return (-self.gamma * squared).softmax(dim=-1)

    def forward(self, text: Tensor, raw: Tensor) -> Tensor:
        """Return unit refined prototypes (K, d): norm(LN(sum_j M_kj LN(c_j))), c (K, d)."""
        mixed = self.affinity(text) @ self.norm_v(raw)
        return F.normalize(self.norm_p(mixed), dim=-1)


def consistency_loss(stored: Tensor, refined: Tensor) -> Tensor:
    """L_reg: mean of 1 - cos of stored (K_old, d) and new prototypes; stored: no gradient."""
    return (1 - (stored.detach() * refined).sum(dim=-1)).mean()
