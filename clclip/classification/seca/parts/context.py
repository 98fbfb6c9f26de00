"""What the parts of one task's learner share: settings, earlier records, the task's constants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clclip.classification.options import ClassificationOptions
from clclip.classification.pixels import Pixels
from clclip.classification.records import Memory
from clclip.classification.seca.adapters import VisualTower
from clclip.classification.seca.frozen import Frozen
from clclip.training.seeds import generator


@dataclass(frozen=True)
class Context:
    """Facts about a task that all parts read.

    Attributes:
        tower: the image tower.
        options: the method.
        memory: records of the earlier tasks.
        seed: experiment seed; every draw comes from (seed, task, purpose).
        task: number of the task, from 1.
        old: number of classes of earlier tasks.
        new: number of classes of this task.
        scale: factor on cosines in the losses.
        device: where the model is.
    """

    tower: VisualTower
    options: ClassificationOptions
    memory: Memory
    seed: int
    task: int
    old: int
    new: int
    scale: float
    device: torch.device

    def draw(self, *purpose: int | str) -> torch.Generator:
        """Return the generator of this task for a purpose."""
        return generator(self.seed, self.task, *purpose)

    def restored(self, name: str, module: nn.Module) -> nn.Module:
        """Return a module that all tasks train, with the weights that the last one stored."""
        if stored := self.memory.part(name):
            self.memory.fill(module, stored)
        return module.to(self.device)


@dataclass(frozen=True)
class TaskData:
    """A task's training images and what is constant about them.

    Attributes:
        images: the images.
        labels: (N,) columns among the current classes.
        frozen: features that do not change during the task.
    """

    images: Pixels
    labels: Tensor
    frozen: Frozen


@dataclass(frozen=True)
class Step:
    """A share of one training batch, as the losses read it.

    Attributes:
        number: 0-based optimizer step.
        places: places of the share in the batch.
        size: images of the whole batch.
        rows: (B,) numbers of the share's training images.
        labels: (B,) columns among the current classes.
        targets: (B,) columns among the compared classes.
        student: (B, d) unit features under the adapters in training.
        text: (C, d) unit text embeddings, of all seen classes where a loss compares them.
        first: column of the seen classes at which the softmaxes start.
        compared: (C', d) text embeddings from ``first`` on.
    """

    number: int
    places: range
    size: int
    rows: Tensor
    labels: Tensor
    targets: Tensor
    student: Tensor
    text: Tensor
    first: int
    compared: Tensor
