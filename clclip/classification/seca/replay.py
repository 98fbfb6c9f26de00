"""SECA++: old classes replayed as Gaussian pseudo features (SECA, section 3.5).

A class is stored as the mean and covariance of its adapted features, never as images.
``covariance`` bounds the memory: full d x d, its diagonal, or a few leading directions with a
diagonal rest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

RIDGE = 1e-4
RELATIVE_RIDGE = 1e-8  # of the mean variance


@dataclass
class Gaussians:
    """Gaussians of K classes.

    Attributes:
        mean: (K, d).
        factor: (K, d, r) with covariance = factor factor^T + diag(spread^2); r = d for full (the
            cached Cholesky factor), r = 0 for diagonal.
        spread: (K, d); zero for full.
    """

    mean: Tensor
    factor: Tensor
    spread: Tensor

    def covariance(self) -> Tensor:
        """Return (K, d, d)."""
        return self.factor @ self.factor.transpose(1, 2) + torch.diag_embed(self.spread.square())

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ``count`` draws a class (K * count, d) and their class numbers."""
        classes, width, rank = self.factor.shape
        device = self.mean.device
        inner = torch.randn(classes, count, rank, generator=generator).to(device)
        outer = torch.randn(classes, count, width, generator=generator).to(device)
        draws = self.mean[:, None] + inner @ self.factor.transpose(1, 2)
        draws = draws + outer * self.spread[:, None]
        labels = torch.arange(classes, device=device).repeat_interleave(count)
        return draws.reshape(-1, width), labels

    def mebibytes(self) -> float:
        """Return the memory that the Gaussians occupy."""
        return (
            sum(x.numel() * x.element_size() for x in (self.mean, self.factor, self.spread)) / 2**20
        )


def fit_gaussians(
    features: Tensor, labels: Tensor, classes: int, covariance: str, rank: int
) -> Gaussians:
    """Fit one Gaussian a class to un-normalised features (N, d) with labels (N,) in 0..classes-1.

    The covariance is unbiased, plus a ridge on its diagonal: 1e-4, and no less than 1e-8 of the
    mean variance, since a class of fewer images than dimensions has directions of variance zero,
    which rounding would make negative. A class of one image has the ridge alone. Computed in
    float64, which not every accelerator has: on the CPU.
    """
    means, factors, spreads = [], [], []
    for number in range(classes):
        x = features[labels == number].cpu().double()
        centred = x - x.mean(dim=0)
        full = centred.T @ centred / max(len(x) - 1, 1)
        ridge = max(RIDGE, RELATIVE_RIDGE * float(full.diagonal().mean()))
        full = full + ridge * torch.eye(x.shape[1], dtype=x.dtype)
        means.append(x.mean(dim=0))
        factor, spread = _factorise(full, covariance, rank)
        factors.append(factor)
        spreads.append(spread)
    stacked = [torch.stack(parts).float() for parts in (means, factors, spreads)]
    return Gaussians(*(part.to(features.device) for part in stacked))


def _factorise(full: Tensor, covariance: str, rank: int) -> tuple[Tensor, Tensor]:
    """Return (factor, spread) of a covariance (d, d); see `Gaussians`."""
    width = len(full)
    if covariance == "full":
        return torch.linalg.cholesky(full), full.new_zeros(width)
    if covariance == "diagonal":
        return full.new_zeros(width, 0), full.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(full)  # ascending
    rank = min(rank, width)
    factor = vectors[:, width - rank :] * values[width - rank :].clamp(min=0).sqrt()
    rest = full.diagonal() - factor.square().sum(dim=1)
    return factor, rest.clamp(min=0).sqrt()


def concatenate(parts: list[Gaussians]) -> Gaussians:
    """Join the Gaussians of several tasks, in task order."""
    return Gaussians(
        torch.cat([part.mean for part in parts]),
        torch.cat([part.factor for part in parts]),
        torch.cat([part.spread for part in parts]),
    )


def log_memory(gaussians: Gaussians, covariance: str, rank: int) -> None:
    """Say how much memory the stored Gaussians take, and what each kind of covariance would."""
    classes, width = gaussians.mean.shape
    ranks = {"full": width, "diagonal": 0, "lowrank": min(rank, width)}
    each = {kind: 4 * classes * width * (r + 2) / 2**20 for kind, r in ranks.items()}
    logger.info(
        "replay memory: %d classes, covariance %s, %.2f MiB (%s)",
        classes,
        covariance,
        gaussians.mebibytes(),
        ", ".join(f"{kind} {size:.2f}" for kind, size in each.items()),
    )
