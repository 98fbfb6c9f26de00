"""SG-AKT: text semantics decide which past adapters teach the current one (SECA, section 3.2).

A pool holds snapshots of the adapter stack, taken when tasks end. In a later task every snapshot p
gives a vector V^(p)(x) of the image; the text embeddings S^(i) of the image's label under every
prompt so far ask which of them is relevant. The mixed vector becomes a teacher feature g, and the
current adapter is distilled from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mixer(nn.Module):
    """Relevance and aggregation of the pool's knowledge.

    Args:
        text_width: width d of text embeddings.
        pooled_width: width D of the vectors V that enter the tower's projection.
        relevance: "softmax_then_mean" (released code): a softmax over the pool for each prompt,
            averaged; LN(V) is mixed and normalised again. "mean_then_softmax" (paper): scores
            averaged over prompts, one softmax with lambda = 1/sqrt(D); V itself is mixed.
        generator: draws the initial weights (uniform in +-1/sqrt(fan in)).
    """

    def __init__(
        self,
        text_width: int,
        pooled_width: int,
        relevance: str,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.relevance = relevance
        self.norm_q, self.norm_k = nn.LayerNorm(text_width), nn.LayerNorm(pooled_width)
        self.norm_o = nn.LayerNorm(pooled_width)
        self.w_s = _linear(pooled_width, text_width, generator)
        self.w_v = _linear(pooled_width, pooled_width, generator)

    def forward(self, text: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the pool's vectors.

        Args:
            text: S (B, s, d), unit text embeddings of each image's label under the s prompts.
            vectors: V (B, P, D), unit vectors of the image under the P snapshots.

        Returns:
            the mixed vector (B, D) and the relevance (B, P), whose rows sum to 1.
        """
        query = F.linear(self.norm_q(text), self.w_s)  # (B, s, D)
        normed = self.norm_k(vectors)  # (B, P, D)
        scores = query @ F.linear(normed, self.w_v).transpose(1, 2)  # (B, s, P)
        scores = scores / math.sqrt(vectors.shape[-1])
        if self.relevance == "mean_then_softmax":
            relevance = scores.mean(dim=1).softmax(dim=-1)
            return (relevance[:, None] @ vectors)[:, 0], relevance
        relevance = scores.softmax(dim=-1).mean(dim=1)
        return self.norm_o((relevance[:, None] @ normed)[:, 0]), relevance


def _linear(rows: int, columns: int, generator: torch.Generator | None) -> nn.Parameter:
    bound = 1 / math.sqrt(columns)
    return nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound, generator=generator))


def aggregation_loss(teacher: Tensor, text: Tensor, labels: Tensor, scale: float) -> Tensor:
    """L_agg: cross-entropy of g (B, d) against the current texts (C, d), without their gradient."""
    return F.cross_entropy(scale * teacher @ text.detach().T, labels)


def distillation_loss(teacher: Tensor, student: Tensor, text: Tensor, scale: float) -> Tensor:
    """L_SG-AKT: mean KL(teacher || student) of softmax(scale * cos) over the current classes.

    Args:
        teacher: g (B, d) unit features; gets no gradient.
        student: f (B, d) unit features; the only input with a gradient.
        text: (C, d) unit text embeddings of the current classes; gets no gradient.
        scale: 1 / temperature.
    """
    text = text.detach()
    target = (scale * teacher.detach() @ text.T).log_softmax(dim=-1)
    student_log = (scale * student @ text.T).log_softmax(dim=-1)
    return F.kl_div(student_log, target, reduction="batchmean", log_target=True)


def updated_utility(
    utility: Tensor,
    relevance: Tensor,
    momentum: float = 0.5,
    *,
    part: float = 1.0,
    first: bool = True,
) -> Tensor:
    """Return U (P,) moved towards the mean relevance (B, P) of a batch.

    Args:
        utility: U before.
        relevance: of the images at hand.
        momentum: how much of U stays.
        part: share of the batch that is at hand.
        first: whether it is the first share, with which the old U fades.
    """
    before = momentum * utility if first else utility
    return before + (1 - momentum) * part * relevance.detach().mean(dim=0)


def next_pool(
    pool: Sequence[int], task: int, utility: Tensor | None, limit: int, evict: str
) -> list[int]:
    """Return the tasks whose snapshots are pooled after ``task``.

    Args:
        pool: tasks whose snapshots were pooled while ``task`` was trained, oldest first.
        task: number of the task that just ended; its snapshot enters.
        utility: U (P,) of the entries of ``pool``; needed if one must leave.
        limit: most entries.
        evict: "max_utility" (paper: its knowledge has been passed on), "min_utility" (released
            code) or "oldest".
    """
    result = list(pool)
    if len(result) + 1 > limit:
        if evict == "oldest" or utility is None:
            victim = 0
        else:
            victim = int(utility.argmax() if evict == "max_utility" else utility.argmin())
        del result[victim]
    return [*result, task]
