"""SECA and its baselines: one learner of five parts, which the options choose.

Loss of task s (SECA, section 3.5), with everything that is frozen computed once per image at the
start of the task::

    L = L_ce-T + L_ce-V + L_reg + L_agg + beta_scale (s - 1) L_SG-AKT  [+ L_gs]

    loss                            adapter  prompt  mixer  refinement   part
    L_ce-T  text classifier            x       x                         learner
    L_ce-V  refined prototypes         x       x               x         VisualClassifier
    L_reg   consistency                        x               x         VisualClassifier
    L_agg   teacher                            x       x                 Teacher
    L_SG-AKT distillation              x                                 Teacher
    L_gs    replay (SECA++)                    x               x         Replay
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.options import ClassificationOptions
from clclip.classification.pixels import Pixels
from clclip.classification.records import Memory, Record
from clclip.classification.seca.adapters import VisualTower
from clclip.classification.seca.frozen import compute_frozen
from clclip.classification.seca.parts.classifier import VisualClassifier, refines
from clclip.classification.seca.parts.context import Context, Step, TaskData
from clclip.classification.seca.parts.replay import Replay
from clclip.classification.seca.parts.teacher import Teacher
from clclip.classification.seca.parts.text import TextSide
from clclip.classification.seca.parts.visual import VisualSide
from clclip.training.shares import WHOLE, Losses, Share


def task_context(
    model: nn.Module,
    count: int,
    old: int,
    options: ClassificationOptions,
    memory: Memory,
    seed: int,
    image_size: int | None = None,
    *,
    finished: bool = False,
) -> Context:
    """Return the facts about a task that a learner's parts share.

    Args:
        model: an open_clip model, frozen unless ``options.visual`` is "tower".
        count: number of seen classes.
        old: number of previous classes.
        options: the method.
        memory: records of the earlier tasks.
        seed: experiment seed.
        image_size: side in px, None: the tower's own.
        finished: ``memory`` ends with this very task, which is used and not trained.
    """
    return Context(
        tower=VisualTower(model, image_size),
        options=options,
        memory=memory,
        seed=seed,
        task=len(memory) + (not finished),
        old=old,
        new=count - old,
        scale=options.training_scale or float(model.logit_scale.detach().exp().max()),
        device=next(model.parameters()).device,
    )


class Learner:
    """One task's learner.

    Attributes:
        trained: parameters by name, those without gradient included.

    Args:
        model: an open_clip model, frozen unless ``options.visual`` is "tower".
        tokenizer: texts -> token ids.
        names: texts of the seen classes, previous ones first.
        old: number of previous classes.
        options: the method.
        memory: records of the earlier tasks.
        seed: experiment seed; every draw comes from (seed, task, purpose).
        image_size: side in px, None: the tower's own.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        names: Sequence[str],
        old: int,
        options: ClassificationOptions,
        memory: Memory,
        seed: int,
        image_size: int | None = None,
    ) -> None:
        context = task_context(model, len(names), old, options, memory, seed, image_size)
        self.context, self.options, self.model = context, options, model
        self.tower, self.device = context.tower, context.device
        self.visual = VisualSide(context)
        self.text = TextSide(context, model, tokenizer, names)
        self.classifier = VisualClassifier(context)
        # a part that the options leave out has no code in the task's fingerprint
        distils = options.visual == "adapter" and options.distillation != "none"
        self.teacher = Teacher(context, self.visual, self.text) if distils else None
        self.replay = Replay(context) if options.replay == "gaussian" else None
        teacher = (self.teacher.modules, self.teacher.parameters) if self.teacher else ({}, {})
        self.modules = self.visual.modules | teacher[0] | self.classifier.modules
        self.trained: dict[str, nn.Parameter] = {
            **self.text.parameters,
            **teacher[1],
            **self.classifier.parameters,
        }
        for name, module in self.modules.items():
            self.trained |= {f"{name}.{key}": p for key, p in module.named_parameters()}
        self.data: TaskData  # set by begin_task

    @property
    def is_trained(self) -> bool:
        """Whether any parameter learns in this task."""
        return any(parameter.requires_grad for parameter in self.trained.values())

    @torch.no_grad()
    def begin_task(self, images: Pixels, labels: Tensor) -> None:
        """Compute what is constant during the task.

        Args:
            images: the task's training images.
            labels: (N,) columns of the classes among the current ones.
        """
        keep_stem = self.options.visual != "tower"
        snapshots = self.teacher.snapshots() if self.teacher else []
        frozen = compute_frozen(self.tower, images, snapshots, keep_stem)
        self.data = TaskData(images, labels.to(self.device), frozen)
        if self.teacher:
            self.teacher.begin(self.data)
        self.classifier.begin(self.data)
        self.text.begin()
        if self.replay:
            self.replay.begin()

    def losses(self, batch: Tensor, step: int, share: Share = WHOLE) -> Losses:
        """Return the weighted losses of a share of a batch.

        Args:
            batch: (B,) numbers of training images.
            step: 0-based optimizer step; with seed and task it decides dropout and replay draws.
            share: which of them are at hand; at least one.
        """
        inputs = self._step(batch, step, share)
        losses = Losses(len(inputs.rows))
        logits = self.context.scale * inputs.student @ inputs.compared.T
        losses["ce_text"] = F.cross_entropy(logits, inputs.targets)
        visual, refined = self.classifier.losses(inputs)
        losses |= visual
        if self.teacher:
            losses |= self.teacher.losses(inputs)
        if self.replay and self.replay.gaussians:
            losses.add("replay", *self.replay.loss(inputs, refined))
        return losses

    def _step(self, batch: Tensor, step: int, share: Share) -> Step:
        """Return what the losses of a share of a batch read."""
        places = share.part(range(len(batch)))
        assert isinstance(places, range)
        rows: Tensor = share.part(batch)
        labels = self.data.labels[rows.to(self.device)]
        student = self.visual.student(self.data, rows, step, places, len(batch))
        columns, old = self._columns(), self.context.old
        text = self.text.embeddings(columns)
        first = old if self.options.compare == "current" else 0
        compared, targets = text[first - columns.start :], labels + old - first
        return Step(step, places, len(batch), rows, labels, targets, student, text, first, compared)

    def _columns(self) -> slice:
        """Return the text columns that a step needs: all only where they are compared."""
        everything = refines(self.options) or self.options.compare == "seen"
        return slice(0 if everything or self._replays else self.context.old, None)

    @property
    def _replays(self) -> bool:
        """Whether there are old classes to replay."""
        return self.replay is not None and self.replay.gaussians is not None

    @torch.no_grad()
    def record(self) -> Record:
        """Return the record of the task (keys: see ``records.py``)."""
        record: Record = {}
        for name, module in self.modules.items():
            record |= {f"{name}.{key}": value for key, value in module.named_parameters()}
        own, text = self.text.record()
        record |= own
        record |= self.classifier.record(text, self.visual, self._replays)
        if self.replay:
            record |= self.replay.record(self.data, self.visual)
        if self.teacher:
            record |= self.teacher.record(text[self.context.old :])
        return record
