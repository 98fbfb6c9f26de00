"""The visual side: a frozen tower, adapters in it, or the whole tower fine-tuned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.options import CLASSIFIERS
from clclip.classification.pixels import Pixels, over_batches
from clclip.classification.seca.adapters import Stem, adapter_stack, seeded_dropout
from clclip.classification.seca.frozen import EVAL_BATCH
from clclip.classification.seca.merging import merged
from clclip.classification.seca.parts.context import Context, TaskData
from clclip.training.seeds import generator


class VisualSide:
    """The image tower of a task and what of it is trained.

    Args:
        context: the task.
        for_training: False: the records end with this very task, and nothing is trained.
    """

    def __init__(self, context: Context, for_training: bool = True) -> None:
        self.context, options = context, context.options
        self.modules: dict[str, nn.Module] = {}
        self.adapters: nn.ModuleList | None = None
        # a first task's adapters that no later task trains
        by_statistics = options.classifier in CLASSIFIERS
        self.settled = by_statistics and options.adapt == "first" and context.task > 1
        if options.visual == "adapter":
            self.adapters = self.snapshot(None)
            if stored := context.memory.part("adapter"):
                context.memory.fill(self.adapters, stored)
            if self.settled:
                self.adapters.requires_grad_(False)
            else:
                self.modules["adapter"] = self.adapters
        elif options.visual == "tower":
            merges = options.merge != "none" and not for_training
            stored = self._merged() if merges else context.memory.part("tower")
            if stored:
                context.memory.fill(context.tower.visual, stored, strict=False)
            for parameter in context.tower.visual.parameters():
                parameter.requires_grad_(True)
            self.modules["tower"] = context.tower.visual

    def _merged(self) -> dict[str, Tensor]:
        """Return the tower's weights merged over all tasks; the model still holds CLIP's own."""
        memory, options = self.context.memory, self.context.options
        own = {name: value.data for name, value in self.context.tower.visual.named_parameters()}
        tasks = [memory.part("tower", number + 1) for number in range(len(memory))]
        for task in tasks:
            memory.check(own, task)
        return merged(own, tasks, options.merge, options.merge_scale)

    def snapshot(self, task: int | None) -> nn.ModuleList:
        """Return the adapters of a task, frozen; None: newly initialised ones."""
        context, options = self.context, self.context.options
        draw = generator(context.seed, "adapter")
        stack = adapter_stack(context.tower, options.adapter_width, options.adapter_scale, draw)
        if task is not None:
            context.memory.fill(stack, context.memory.part("adapter", task))
            stack.requires_grad_(False)
        return stack.to(context.device)

    def stem(self, data: TaskData, rows: Tensor) -> Stem:
        """Return the stem of training images (B,), stored or computed now."""
        if data.frozen.stem is not None:
            return data.frozen.stem[rows.to(data.frozen.stem.h.device)]
        pixels = data.images[rows.tolist()]
        if self.context.options.visual == "tower":
            return self.context.tower.stem(pixels)
        with torch.no_grad():
            return self.context.tower.stem(pixels)

    def student(self, data: TaskData, rows: Tensor, step: int, places: range, size: int) -> Tensor:
        """Return the unit features (B, d) of a step's images, with dropout in the adapters.

        Args:
            data: the task's images.
            rows: (B,) numbers of the images.
            step: 0-based optimizer step; with seed and task it decides the dropout.
            places: places of the images in the whole batch.
            size: images of the whole batch.
        """
        options, drop = self.context.options, None
        if options.visual == "adapter" and not self.settled:
            draw = self.context.draw("dropout", step)
            drop = seeded_dropout(options.adapter_dropout, draw, places, size)
        feature = self.context.tower.feature(self.stem(data, rows), self.adapters, drop)
        return F.normalize(feature, dim=-1)

    def adapted(self, data: TaskData, adapters: nn.ModuleList | None) -> Tensor:
        """Return the features (N, d) of all training images under adapters, not normalised."""
        images: Pixels = data.images
        return over_batches(
            len(images),
            EVAL_BATCH,
            lambda rows: self.context.tower.feature(self.stem(data, torch.tensor(rows)), adapters),
        )
