"""The teacher: SG-AKT over a pool of adapter snapshots, or one that needs no training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.records import Record
from clclip.classification.seca.baselines import fixed_teacher
from clclip.classification.seca.parts.context import Context, Step, TaskData
from clclip.classification.seca.parts.text import TextSide
from clclip.classification.seca.parts.visual import VisualSide
from clclip.classification.seca.sgakt import (
    Mixer,
    aggregation_loss,
    distillation_loss,
    next_pool,
    updated_utility,
)
from clclip.training.seeds import generator


class Teacher:
    """Features of past snapshots that the adapters are distilled from.

    Attributes:
        pool: tasks whose adapter snapshots take part, oldest first.
        distils: whether the task has a teacher.

    Args:
        context: the task.
        visual: its visual side, which makes the snapshots.
        text: its text side, which weighs them.
    """

    def __init__(self, context: Context, visual: VisualSide, text: TextSide) -> None:
        self.context, self.visual, self.text = context, visual, text
        self.modules: dict[str, nn.Module] = {}
        self.parameters: dict[str, nn.Parameter] = {}
        self.fixed: Tensor | None = None
        options, tower = context.options, context.tower
        has_pool = visual.adapters is not None and not visual.settled
        self.pool = context.memory.pool() if has_pool else []
        self.distils = options.distillation != "none" and bool(self.pool)
        if options.distillation == "sgakt" and self.pool:
            draw = generator(context.seed, "mixer")
            mixer = Mixer(tower.embed_dim, tower.pooled_width, options.relevance, draw)
            self.modules["mixer"] = context.restored("mixer", mixer)
            utility = torch.full((len(self.pool),), 1 / options.pool, device=context.device)
            # a parameter without gradient, so that the resume state holds it
            self.parameters["utility"] = nn.Parameter(utility, requires_grad=False)

    def snapshots(self) -> list[nn.ModuleList]:
        """Return the pooled adapters whose vectors the task needs."""
        needed = self.distils and self.context.options.distillation != "clip"
        return [self.visual.snapshot(task) for task in self.pool] if needed else []

    def begin(self, data: TaskData) -> None:
        """Compute the features of a teacher that needs no training."""
        self.data, context = data, self.context
        name = context.options.distillation
        if self.distils and name != "sgakt":
            last = context.task - 1
            self.fixed = fixed_teacher(name, context.tower, data.frozen, self.pool, last)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Return L_agg and beta * L_SG-AKT (or the KL to another teacher); {} in task 1."""
        context, options = self.context, self.context.options
        if not self.distils:
            return {}
        beta = options.beta_scale * (context.task - 1)
        rows = step.rows.to(context.device)
        losses = {}
        if options.distillation == "sgakt":
            features, relevance = self.features(rows, step.compared[step.targets])
            losses["aggregation"] = aggregation_loss(
                features, step.compared, step.targets, context.scale
            )
            if len(self.pool) == options.pool and torch.is_grad_enabled():  # not while counting
                utility = self.parameters["utility"]
                part, first = len(step.rows) / step.size, step.places.start == 0
                moved = updated_utility(utility.data, relevance, part=part, first=first)
                utility.data.copy_(moved)
        else:
            assert self.fixed is not None
            features = self.fixed[rows]
        kl = distillation_loss(features, step.student, step.compared, options.distillation_scale)
        return losses | {"distillation": beta * kl}

    def features(self, rows: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return SG-AKT's teacher features g (B, d) and relevance (B, P) of training images.

        Args:
            rows: (B,) numbers of the images.
            text: (B, d) embeddings of their true labels under the current prompt.
        """
        own = text[:, None]  # (B, 1, d)
        if self.text.before is not None:
            earlier = self.text.before[:, self.data.labels[rows]].transpose(0, 1)  # (B, s-1, d)
            own = torch.cat([earlier, own], dim=1)
        assert self.data.frozen.vectors is not None  # there are teachers
        mixed, relevance = self.modules["mixer"](own, self.data.frozen.vectors[rows])
        return F.normalize(self.context.tower.project(mixed), dim=-1), relevance

    def record(self, text: Tensor) -> Record:
        """Return the next pool and, for SG-AKT, each snapshot's relevance by class (K_new, P).

        Args:
            text: (K_new, d) embeddings of the current classes.
        """
        context, options = self.context, self.context.options
        if self.visual.adapters is None or self.visual.settled or options.distillation == "none":
            return {}
        utility = self.parameters.get("utility")
        values = None if utility is None else utility.data
        pool = next_pool(self.pool, context.task, values, options.pool, options.evict)
        record: Record = {"pool": torch.tensor(pool, dtype=torch.int64)}
        if values is None:
            return record
        labels = self.data.labels
        rows = torch.arange(len(self.data.images), device=context.device)
        _, relevance = self.features(rows, text[labels])
        sums = torch.zeros(context.new, len(self.pool), device=context.device)
        sums.index_add_(0, labels, relevance)
        counts = torch.bincount(labels, minlength=context.new)
        record["relevance"] = sums / counts[:, None]
        record["relevance_tasks"] = torch.tensor(self.pool, dtype=torch.int64)
        record["utility"] = values
        return record
