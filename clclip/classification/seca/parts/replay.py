"""Replay (SECA++): pseudo features of old classes, drawn from stored Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clclip.classification.records import Record
from clclip.classification.seca.frozen import raw_prototypes
from clclip.classification.seca.parts.context import Context, Step, TaskData
from clclip.classification.seca.parts.visual import VisualSide
from clclip.classification.seca.replay import Gaussians, concatenate, fit_gaussians, log_memory


class Replay:
    """The Gaussians of old classes, and the loss on what is drawn from them.

    Args:
        context: the task.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.gaussians: Gaussians | None = None

    def begin(self) -> None:
        """Read the Gaussians of the earlier tasks."""
        options, device = self.context.options, self.context.device
        records = [r for r in self.context.memory.records if "gaussian.mean" in r]
        if not records:
            return
        names = [f"gaussian.{part}" for part in ("mean", "factor", "spread")]
        stored = concatenate([Gaussians(*(r[name] for name in names)) for r in records])
        log_memory(stored, options.covariance, options.rank)
        parts = (stored.mean, stored.factor, stored.spread)
        self.gaussians = Gaussians(*(part.to(device) for part in parts))

    def loss(self, step: Step, refined: Tensor | None) -> tuple[Tensor, int]:
        """Return L_gs and the number of features: pseudo ones of old classes and the batch's own.

        It is the cross-entropy over all seen classes. A share of a batch takes its part of the
        pseudo features.
        """
        assert self.gaussians is not None
        scale, draw = self.context.scale, self.context.draw("replay", step.number)
        pseudo, labels = self.gaussians.sample(self.context.options.replay_samples, draw)
        bounds = step.places.start / step.size, step.places.stop / step.size
        own = slice(*(round(bound * len(pseudo)) for bound in bounds))
        pseudo, labels = pseudo[own], labels[own]
        x = torch.cat([F.normalize(pseudo, dim=-1), step.student.detach()])
        y = torch.cat([labels, step.labels + self.context.old])
        loss = F.cross_entropy(scale * x @ step.text.T, y)
        if refined is not None:
            loss = loss + F.cross_entropy(scale * x @ refined.T, y)
        return loss, len(x)

    def record(self, data: TaskData, visual: VisualSide) -> Record:
        """Return centroids and Gaussians of adapted features."""
        context, options = self.context, self.context.options
        features = visual.adapted(data, visual.adapters)
        fitted = fit_gaussians(features, data.labels, context.new, options.covariance, options.rank)
        log_memory(fitted, options.covariance, options.rank)
        return {
            "centroid": raw_prototypes(features, data.labels, context.new),
            "gaussian.mean": fitted.mean,
            "gaussian.factor": fitted.factor,
            "gaussian.spread": fitted.spread,
        }
