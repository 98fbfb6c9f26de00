"""SECA and its baselines: one learner, whose options decide which parts exist.

Loss of task s (SECA, section 3.5), with everything that is frozen computed once per image at the
start of the task::

    L = L_ce-T + L_ce-V + L_reg + L_agg + beta_scale (s - 1) L_SG-AKT  [+ L_gs]

    who learns from what        adapter  prompt  mixer  refinement
    L_ce-T  text classifier        x       x
    L_ce-V  refined prototypes     x       x               x
    L_reg   consistency                    x               x
    L_agg   teacher                        x       x
    L_SG-AKT distillation          x
    L_gs    replay (SECA++)                x               x
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.options import ClassificationOptions, refines
from clclip.classification.pixels import Pixels
from clclip.classification.records import Memory
from clclip.classification.seca.adapters import Stem, VisualTower, adapter_stack, seeded_dropout
from clclip.classification.seca.baselines import fixed_teacher, new_linear
from clclip.classification.seca.frozen import Frozen, compute_frozen
from clclip.classification.seca.merging import merged
from clclip.classification.seca.prompts import PromptedText, new_prompt, template_text
from clclip.classification.seca.replay import Gaussians, log_memory
from clclip.classification.seca.sevpr import Refinement, consistency_loss, raw_prototypes
from clclip.classification.seca.sgakt import (
    Mixer,
    aggregation_loss,
    distillation_loss,
    updated_utility,
)
from clclip.training.seeds import generator
from clclip.training.shares import WHOLE, Losses, Share


class Learner:
    """One task's learner.

    Args:
        model: an open_clip model, frozen unless ``options.visual`` is "tower".
        tokenizer: texts -> token ids.
        names: texts of the seen classes, previous ones first.
        old: number of previous classes.
        options: the method.
        memory: records of the earlier tasks.
        seed: experiment seed; every draw comes from (seed, task, purpose).
        image_size: side in px, None: the tower's own.
        for_training: False: ``memory`` ends with this very task, and only the visual side is built.
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
        for_training: bool = True,
    ) -> None:
        self.options, self.memory, self.seed = options, memory, seed
        self.task = len(memory) + for_training
        self.old, self.names = old, list(names)
        self.new = len(self.names) - old
        self.tower = VisualTower(model, image_size)
        self.device = next(model.parameters()).device
        self.model, self.tokenizer = model, tokenizer
        self.scale = options.training_scale or float(model.logit_scale.detach().exp().max())
        self.modules: dict[str, nn.Module] = {}
        self.trained: dict[str, nn.Parameter] = {}
        self._build_visual(for_training)
        if for_training:
            self._build_text()
            self._build_heads()
        for name, module in self.modules.items():
            self.trained |= {f"{name}.{key}": p for key, p in module.named_parameters()}
        self.frozen: Frozen  # set by begin_task

    # ---------------------------------------------------------------- construction
    def _draw(self, *purpose: int | str) -> torch.Generator:
        return generator(self.seed, self.task, *purpose)

    def _build_visual(self, for_training: bool) -> None:
        options = self.options
        self.adapters: nn.ModuleList | None = None
        # a first task's adapters that no later task trains
        self.settled = options.counts("adapt") and options.adapt == "first" and self.task > 1
        if options.visual == "adapter":
            self.adapters = self.snapshot(None)
            last = self.memory.part("adapter")
            if last:
                self.memory.fill(self.adapters, last)
            if self.settled:
                self.adapters.requires_grad_(False)
            else:
                self.modules["adapter"] = self.adapters
        elif options.visual == "tower":
            merges = options.merge != "none" and not for_training
            last = self._merged() if merges else self.memory.part("tower")
            if last:
                self.memory.fill(self.tower.visual, last, strict=False)
            for parameter in self.tower.visual.parameters():
                parameter.requires_grad_(True)
            self.modules["tower"] = self.tower.visual

    def _merged(self) -> dict[str, Tensor]:
        """Return the tower's weights merged over all tasks; the model still holds CLIP's own."""
        own = {name: value.data for name, value in self.tower.visual.named_parameters()}
        tasks = [self.memory.part("tower", number + 1) for number in range(len(self.memory))]
        for task in tasks:
            self.memory.check(own, task)
        return merged(own, tasks, self.options.merge, self.options.merge_scale)

    def snapshot(self, task: int | None) -> nn.ModuleList:
        """Return the adapters of a task, frozen; None: fresh ones."""
        options = self.options
        draw = generator(self.seed, "adapter")
        stack = adapter_stack(self.tower, options.adapter_width, options.adapter_scale, draw)
        if task is not None:
            self.memory.fill(stack, self.memory.part("adapter", task))
            stack.requires_grad_(False)
        return stack.to(self.device)

    def _build_text(self) -> None:
        options = self.options
        if options.prompt == "learned":
            self.text = PromptedText(self.model, self.tokenizer, self.names, options.prompt_length)
            prompt = new_prompt(options.prompt_length, self.text.width, self._draw("prompt"))
            self.prompt = nn.Parameter(prompt.data.to(self.device))
            self.trained["prompt"] = self.prompt
            self.template = None
        else:
            self.template = template_text(self.model, self.tokenizer, self.names, options.template)

    def _build_heads(self) -> None:
        options, d = self.options, self.tower.embed_dim
        self.pool = self.memory.pool() if self.adapters is not None else []
        if self.settled:
            self.pool = []
        self.distilled = options.distillation != "none" and bool(self.pool)
        if options.distillation == "sgakt" and self.pool:
            mixer = Mixer(
                d, self.tower.pooled_width, options.relevance, generator(self.seed, "mixer")
            )
            self._restore("mixer", mixer)
            utility = torch.full((len(self.pool),), 1 / options.pool, device=self.device)
            # a parameter without gradient, so that it is kept with the resume state
            self.trained["utility"] = nn.Parameter(utility, requires_grad=False)
        if refines(options):
            draw = generator(self.seed, "refinement")
            self._restore("refinement", Refinement(d, options.gamma, draw))
        if options.classifier == "linear":
            linear = new_linear(self.new, d, self._draw("linear"))
            self.trained["linear"] = nn.Parameter(linear.data.to(self.device))

    def _restore(self, name: str, module: nn.Module) -> None:
        """Register a module that lives through all tasks, with its weights so far."""
        last = self.memory.part(name)
        if last:
            self.memory.fill(module, last)
        self.modules[name] = module.to(self.device)

    @property
    def is_trained(self) -> bool:
        """Whether any parameter learns in this task."""
        return any(parameter.requires_grad for parameter in self.trained.values())

    # ---------------------------------------------------------------- begin_task
    @torch.no_grad()
    def begin_task(self, images: Pixels, labels: Tensor) -> None:
        """Compute what the task keeps constant.

        Args:
            images: the task's training images.
            labels: (N,) columns of the classes among the current ones.
        """
        self.images, self.labels = images, labels.to(self.device)
        needs_pool = self.distilled and self.options.distillation != "clip"
        teachers = [self.snapshot(task) for task in self.pool] if needs_pool else []
        keep = self.options.visual != "tower"
        self.frozen = compute_frozen(self.tower, images, teachers, keep)
        self.fixed = None
        if self.distilled and self.options.distillation != "sgakt":
            self.fixed = fixed_teacher(
                self.options.distillation, self.tower, self.frozen, self.pool, self.task - 1
            )
        self.raw_new = raw_prototypes(self.frozen.raw, self.labels, self.new)
        self.raw = self._with_old(self.memory.rows("raw"), self.raw_new)
        self.text_before = self._text_before()
        refined = self.memory.refined()
        self.stored = None if refined is None else refined.to(self.device)
        self.gaussians = self._old_gaussians()

    def _with_old(self, old: Tensor | None, new: Tensor) -> Tensor:
        return new if old is None else torch.cat([old.to(self.device), new])

    def _text_before(self) -> Tensor | None:
        """Return the current classes' embeddings (s-1, K_new, d) under the earlier prompts."""
        prompts = self.memory.prompts()
        if self.template is not None or not prompts:
            return None
        new = slice(self.old, None)
        return torch.stack([self.text(prompt.to(self.device), new) for prompt in prompts])

    def _old_gaussians(self) -> Gaussians | None:
        stored = self.memory.gaussians() if self.options.replay == "gaussian" else None
        if stored is None:
            return None
        log_memory(stored, self.options.covariance, self.options.rank)
        return Gaussians(*(x.to(self.device) for x in (stored.mean, stored.factor, stored.spread)))

    # ---------------------------------------------------------------- losses
    def stem(self, rows: Tensor) -> Stem:
        """Return the stem of training images (B,), stored or computed now."""
        if self.frozen.stem is not None:
            return self.frozen.stem[rows.to(self.frozen.stem.h.device)]
        if self.options.visual == "tower":
            return self.tower.stem(self.images[rows.tolist()])
        with torch.no_grad():
            return self.tower.stem(self.images[rows.tolist()])

    def _columns(self) -> slice:
        """Return the text columns that a step needs: all only where they are compared."""
        options = self.options
        everything = refines(options) or options.compare == "seen"
        everything = everything or self.gaussians is not None
        return slice(0 if everything else self.old, None)

    def losses(self, batch: Tensor, step: int, share: Share = WHOLE) -> Losses:
        """Return the weighted losses of a share of a batch.

        Args:
            batch: (B,) numbers of training images.
            step: 0-based optimizer step; with seed and task it decides dropout and replay draws.
            share: which of them are at hand; at least one.
        """
        options, scale = self.options, self.scale
        places = share.part(range(len(batch)))
        assert isinstance(places, range)
        rows: Tensor = share.part(batch)
        labels = self.labels[rows.to(self.device)]
        drop = None
        if options.visual == "adapter" and not self.settled:
            draw = self._draw("dropout", step)
            drop = seeded_dropout(options.adapter_dropout, draw, places, len(batch))
        student = F.normalize(self.tower.feature(self.stem(rows), self.adapters, drop), dim=-1)
        columns = self._columns()
        text = self.text(self.prompt, columns) if self.template is None else self.template[columns]
        first = self.old if options.compare == "current" else 0  # column that softmaxes start at
        compared = text[first - columns.start :]  # (C, d)
        targets = labels + self.old - first
        losses = Losses(len(rows))
        losses["ce_text"] = F.cross_entropy(scale * student @ compared.T, targets)
        refined = None
        if refines(options):
            refined = self.modules["refinement"](text, self.raw)
            losses["ce_visual"] = F.cross_entropy(scale * student @ refined[first:].T, targets)
            if self.stored is not None:
                reg = consistency_loss(self.stored, refined[: self.old])
                losses["consistency"] = options.consistency * reg
        elif options.classifier == "linear":
            weights = F.normalize(self.trained["linear"], dim=-1)
            losses["ce_visual"] = F.cross_entropy(scale * student @ weights.T, labels)
        part = len(rows) / len(batch)
        losses |= self._distillation(rows, targets, student, compared, part, places.start == 0)
        if self.gaussians is not None:
            bounds = places.start / len(batch), places.stop / len(batch)
            losses.add("replay", *self._replay(student, labels, text, refined, step, bounds))
        return losses

    def _distillation(
        self,
        rows: Tensor,
        targets: Tensor,
        student: Tensor,
        compared: Tensor,
        part: float,
        first: bool,
    ) -> dict[str, Tensor]:
        """Return L_agg and beta * L_SG-AKT (or the KL to another teacher); {} in task 1."""
        options = self.options
        if not self.distilled:
            return {}
        beta = options.beta_scale * (self.task - 1)
        rows = rows.to(self.device)
        losses = {}
        if options.distillation == "sgakt":
            teacher, relevance = self.teacher(rows, compared[targets])
            losses["aggregation"] = aggregation_loss(teacher, compared, targets, self.scale)
            if len(self.pool) == options.pool and torch.is_grad_enabled():  # not while counting
                utility = self.trained["utility"]
                moved = updated_utility(utility.data, relevance, part=part, first=first)
                utility.data.copy_(moved)
        else:
            assert self.fixed is not None
            teacher = self.fixed[rows]
        kl = distillation_loss(teacher, student, compared, options.distillation_scale)
        return losses | {"distillation": beta * kl}

    def teacher(self, rows: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return teacher features g (B, d) and relevance (B, P) of training images.

        Args:
            rows: (B,) numbers of the images.
            text: (B, d) embeddings of their true labels under the current prompt.
        """
        own = text[:, None]  # (B, 1, d)
        if self.text_before is not None:
            earlier = self.text_before[:, self.labels[rows]].transpose(0, 1)  # (B, s-1, d)
            own = torch.cat([earlier, own], dim=1)
        assert self.frozen.vectors is not None  # kept where there are teachers
        mixed, relevance = self.modules["mixer"](own, self.frozen.vectors[rows])
        return F.normalize(self.tower.project(mixed), dim=-1), relevance

    def _replay(
        self,
        student: Tensor,
        labels: Tensor,
        text: Tensor,
        refined: Tensor | None,
        step: int,
        bounds: tuple[float, float],
    ) -> tuple[Tensor, int]:
        """L_gs: cross-entropy over all seen classes, of pseudo features and the batch's own.

        Of the pseudo features only those between ``bounds``, in [0, 1]: a share's part of them.
        """
        scale = self.scale
        draw = self._draw("replay", step)
        assert self.gaussians is not None
        pseudo, old_labels = self.gaussians.sample(self.options.replay_samples, draw)
        own = slice(*(round(bound * len(pseudo)) for bound in bounds))
        pseudo, old_labels = pseudo[own], old_labels[own]
        x = torch.cat([F.normalize(pseudo, dim=-1), student.detach()])
        y = torch.cat([old_labels, labels + self.old])
        loss = F.cross_entropy(scale * x @ text.T, y)
        if refined is not None:
            loss = loss + F.cross_entropy(scale * x @ refined.T, y)
        return loss, len(x)
