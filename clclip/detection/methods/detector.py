"""The interface of a detection method; everything else is the method's own."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from clclip.core.artifacts import Task
from clclip.detection.inputs.dataset import FeatureBatches
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.path import SharedPath
from clclip.detection.options.detector import DetectorOptions
from clclip.training.shares import Losses


@dataclass(frozen=True)
class DetectorInputs:
    """Constructor arguments that all detectors share.

    Attributes:
        width: channels of the tower's taps.
        stride: pixels per token of the tower.
        groups: class groups of tasks 1..t; one group where all classes are trained at once.
        text: (K, d) unit text embeddings of the seen classes, in the order of the groups.
        background: (N, d) text embeddings of the fixed background prompts.
        seed: experiment seed.
        origins: per group the 1-based group at which its line begins, in a model that was merged;
            empty: all groups are one line.
    """

    width: int
    stride: float
    groups: list[list[str]]
    text: Tensor
    background: Tensor
    seed: int
    origins: Sequence[int] = ()


class Prediction(NamedTuple):
    """A detector's output on B images.

    Attributes:
        detections: per image "boxes" (N, 4) xyxy on the canvas, "scores" (N,), "labels" (N,), the
            columns of the seen classes.
        proposals: per shared path, that of task 1 first, and per image: (P, 4) xyxy.
    """

    detections: list[dict[str, Tensor]]
    proposals: list[list[Tensor]]


@dataclass(frozen=True)
class RehearsalTask:
    """The task as a method with a rehearsal memory needs it.

    Attributes:
        task: the task file, and its path.
        task_file: as above; earlier tasks lie beside its folder.
        resources: folder of CLIPs and data sets.
        batches: the task's batches without rehearsed objects.
    """

    task: Task
    task_file: Path
    resources: Path
    batches: FeatureBatches


Stored = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors and metadata of a weights file."""


@dataclass(frozen=True)
class Rehearsal:
    """Batches to train on, and what is stored beside the weights after training."""

    batches: FeatureBatches
    remember: Callable[[], Stored]


class Detector(nn.Module, abc.ABC):
    """A detector over the class groups of tasks 1..t on a frozen tower.

    Args:
        inputs: feature sizes, class groups and text embeddings.
        options: the method's options.
    """

    def __init__(self, inputs: DetectorInputs, options: DetectorOptions) -> None:
        super().__init__()
        self.options, self.stride, self.groups = options, inputs.stride, inputs.groups
        self.register_buffer("text", inputs.text, persistent=False)

    options: DetectorOptions
    text: Tensor

    @property
    def previous(self) -> int:
        """Number of classes of earlier tasks: the column at which the current ones start."""
        return sum(map(len, self.groups[:-1]))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    # ---- required of every method -----------------------------------------------------------

    @abc.abstractmethod
    def begin_task(self) -> None:
        """Prepare what the last task trains; called once the earlier weights are loaded."""

    @abc.abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """Return the named, weighted losses of a batch, with what each is a mean over."""

    @abc.abstractmethod
    def predict(self, batch: Batch) -> Prediction:
        """Return detections and proposals, without a gradient."""

    @abc.abstractmethod
    def shared_paths(self) -> Sequence[SharedPath]:
        """Return the paths that propose regions, that of task 1 first."""

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the detections per image (see ``Prediction``)."""
        return self.predict(batch).detections

    def finished(self) -> Self:
        """Return the detector, its weights final: frozen, in eval mode, folded where it can be."""
        for path in self.shared_paths():
            path.fold()
        return self.eval().requires_grad_(False)

    # ---- optional ---------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the current task trains."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def calibrate(self, batches: FeatureBatches) -> None:
        """Start from the data of the first task, before it is trained."""

    def fitted(self, batches: FeatureBatches) -> dict[str, Tensor]:
        """Return the tensors that are fixed after training, from the task's own images."""
        return {}

    def new_tensors(self) -> Collection[str]:
        """Return the names of tensors that no earlier task can have stored."""
        return ()

    def rehearsal(self, task: RehearsalTask) -> Rehearsal | None:
        """Return the task's rehearsal at its start; None: the method has no memory.

        Raises:
            InputError: if an earlier task's memory is damaged.
        """
        return None

    def probes(self, vectors: Tensor) -> dict[str, Tensor]:
        """Return activations of the method's own on region vectors (R, fc_width), by name."""
        return {}

    def class_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Return maps (B, K, h, w) of the seen classes, by name, whose overlap is measured."""
        return {}
