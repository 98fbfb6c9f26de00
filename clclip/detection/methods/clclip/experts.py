"""The expert bank: one small convolutional network per class, stacked, over (region, class) pairs.

The input is a list of pairs sorted by class; ``dispatch.py`` holds the ways to compute it. Time and
memory grow with the number of pairs, not of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor, nn

from clclip.detection.layers.path import REGION
from clclip.detection.methods.clclip.dispatch import Stacked, dispatch_on
from clclip.training.checkpointing import checkpointed
from clclip.training.seeds import generator

_LARGEST_RECALL = 0.99999  # a recall of 1 would put the threshold at minus infinity
_SHARE_ROOM = 2.0  # standard deviations
_NO_THRESHOLD = -1e9  # below every prior and share; weights files hold finite numbers only


class ExpertBank(nn.Module):
    """Experts E_c of some classes: 3x3 convolutions, then a linear score (CL-CLIP, item 4).

    Args:
        names: class names; expert k belongs to names[k] and is initialised from the seed and the
            NAME, so that it does not depend on which other classes exist.
        channels: channels of the region features.
        width: channels inside an expert.
        depth: number of 3x3 convolutions.
        box: experts also regress a refinement of the box.
        seed: experiment seed.
    """

    def __init__(
        self,
        names: Sequence[str],
        channels: int,
        width: int,
        depth: int,
        *,
        box: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        count = len(self.names)
        inputs = [channels] + [width] * (depth - 1)
        self.convs = nn.ParameterList(
            nn.Parameter(torch.empty(count, width, size, 3, 3)) for size in inputs
        )
        self.conv_bias = nn.ParameterList(
            nn.Parameter(torch.zeros(count, width)) for _ in range(depth)
        )
        self.score = nn.Parameter(torch.empty(count, width * REGION * REGION))
        self.bias = nn.Parameter(torch.full((count,), -2.0))
        self.beta = nn.Parameter(torch.zeros(count))
        self.box = nn.Parameter(torch.zeros(count, 4, width * REGION * REGION)) if box else None
        # what a region's prior or share must exceed to be scored; set when the task ends
        self.register_buffer("threshold", torch.full((count,), _NO_THRESHOLD))
        self._initialise(seed)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        for k, name in enumerate(self.names):
            draws = generator(seed, "expert", name)
            for conv in self.convs:
                fan_in = conv.shape[2] * 9
                conv[k] = torch.randn(conv[k].shape, generator=draws) * (2.0 / fan_in) ** 0.5
            self.score[k] = torch.randn(self.score[k].shape, generator=draws) * 0.01

    def stacked(self) -> Stacked:
        """Return the weights that the experts' outputs come from."""
        return Stacked(list(self.convs), list(self.conv_bias), self.score, self.box)

    def forward(
        self, features: Tensor, columns: Tensor, prior: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Score pairs.

        Args:
            features: (N, channels, 7, 7) gated features F_{r,c} of the pairs.
            columns: (N,) index into ``names``, ascending.
            prior: (N,) mean of S_c in r.

        Returns:
            logits (N,), the last activations (N, width, 7, 7), box deltas (N, 4) or None.
        """
        run = dispatch_on(features.device)
        raw, activations, deltas = checkpointed(run, self.stacked(), features, columns)
        raw = raw if raw.dtype == torch.float64 else raw.float()  # never bf16: scores are compared
        logit = raw + self.beta[columns] * prior + self.bias[columns]
        return logit, activations, deltas

    @torch.no_grad()
    def set_thresholds(
        self, values: Sequence[Tensor], recall: float, *, shares: bool = False
    ) -> None:
        """Fix each class's routing threshold from its own training regions.

        A class has tens of regions, too few to estimate a tail by a quantile: of fifty, the 1 %
        quantile is the smallest, and one new object in ten fell below it. So the threshold of
        priors is the lower of the quantile and of where a normal distribution of the same mean and
        spread would put it. Shares have a longer lower tail, and leave room of two standard
        deviations below their quantile (measured in docs/performance.md).

        Args:
            values: per class (n_k,) prior or share in its ground-truth boxes.
            recall: share of them that must pass, in (0, 1].
            shares: the values are log shares, not priors.
        """
        deviations = NormalDist().inv_cdf(min(recall, _LARGEST_RECALL))
        for k, own in enumerate(values):
            if not len(own):
                continue
            own = own.float()
            quantile, spread = torch.quantile(own, 1 - recall), own.std(correction=0)
            if shares:
                self.threshold[k] = quantile - _SHARE_ROOM * spread
            else:
                self.threshold[k] = torch.minimum(quantile, own.mean() - deviations * spread)
            self.threshold[k] -= 1e-6


def sort_pairs(region: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs (region, column) ordered by column, then region."""
    order = torch.argsort(column, stable=True)
    return region[order], column[order]
