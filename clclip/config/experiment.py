"""The typed configuration: what an experiment file may hold.

Pydantic stands at this edge only; everything behind ``clclip.workflow.plan`` sees plain values.
The module is torch-free and imports in well under 0.3 s, because the Snakefile is parsed once for
every job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from clclip.config.clip import ClipConfig
from clclip.config.data import DataConfig
from clclip.core.artifacts import KindName
from clclip.core.errors import WrongValue, nearest
from clclip.core.models import (
    Strict,
    check_class,
    check_groups,
    check_seeds,
    check_text,
)
from clclip.evaluation.calibrated.objective import Objective
from clclip.model.kinds import KINDS

RESERVED = ("figures", "report.html", "report.log", "summary.csv", "table.txt")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class TrainingConfig(Strict):
    """How one task is trained."""

    epochs: int = Field(8, ge=0, le=10_000, description="passes over the task's training images")
    min_steps: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="optimizer steps of a task at least: one of few images gets more epochs",
    )
    lr: float = Field(1e-3, gt=0, le=10, description="peak learning rate")
    batch_size: int = Field(8, ge=1, le=65_536, description="images per optimizer step")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="optimizer")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="weight decay")
    schedule: Literal["cosine", "constant", "multistep"] = Field(
        "cosine", description="learning rate after the warm-up"
    )
    milestones: tuple[float, ...] = Field(
        (0.67, 0.89), description="multistep: fractions of training at which lr is divided by 10"
    )
    warmup_steps: int = Field(50, ge=0, le=1_000_000, description="steps of linear warm-up")
    grad_clip: float | None = Field(
        10.0, gt=0, description="largest norm of the gradient (null: no limit)"
    )
    augment: Literal["none", "flip", "lsj"] = Field(
        "flip", description="none, horizontal flips, or flips with large-scale jitter"
    )
    image_size: int | None = Field(
        None, ge=16, le=4096, description="side of the square canvas in px (null: the tower's own)"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="precision of tower and experts")
    cache_features: bool = Field(
        True, description="compute frozen features once (never with augment: lsj, which moves them)"
    )
    holdout: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="detection: share of a task's training images that no method trains on and "
        "its scores are calibrated on (0: none; the key is then not in task.json)",
    )
    repeat_threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="detection: images of classes that fewer than this share of a task's images "
        "show come more often, as in LVIS (0: all alike; the key is then not in task.json)",
    )
    # how a batch is spread changes results by rounding only: these reach jobs beside task.json
    devices: int = Field(
        1, ge=1, le=64, description="processes that share a batch, a GPU each if there are any"
    )
    nodes: int = Field(
        1, ge=1, le=1024, description="nodes of a SLURM job, with so many devices each"
    )

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or any(not 0 < part < 1 for part in value):
            what = f"milestones {list(value)}"
            raise WrongValue(what, "numbers that rise strictly between 0 and 1")
        return value


class EvaluationConfig(Strict):
    """How the predictions are scored; named in every output."""

    ap: Literal["voc_area", "voc07", "coco101", "coco"] = Field(
        "voc_area", description="AP50 by area, by 11 points, by COCO's 101 points, or AP[.50:.95]"
    )
    images: Literal["full", "group"] = Field(
        "full", description="all test images, or only those holding a class of the group"
    )

    threshold: str | None = Field(
        None,
        description="with training.holdout: what a class's threshold is chosen for, f1 (the "
        "default) or precision:0.9",
    )

    @field_validator("threshold")
    @classmethod
    def _known_objective(cls, value: str | None) -> str | None:
        if value is not None:
            Objective.read(value)
        return value


class TaskOverride(Strict):
    """What one task does differently."""

    training: dict[str, Any] = Field({}, description="keys of training that differ in this task")
    switches: dict[str, Any] = Field({}, description="switches that differ in this task")


@dataclass(frozen=True)
class Own:
    """The keys that an experiment file sets itself, as opposed to its bases.

    Attributes:
        switches: of ``switches``.
        per_task: task number -> those of its ``switches``.
        training: those of ``training``, by section: "" or ``per_task.N``.
        data: those of ``data``.
        evaluation: those of ``evaluation``.
    """

    switches: tuple[str, ...] = ()
    per_task: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    training: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Own:
        """Return those of a file's own values, which are valid."""
        tasks = values.get("per_task", {})
        sections = {"": values} | {f"per_task.{number}": task for number, task in tasks.items()}
        return cls(
            tuple(values.get("switches", ())),
            {int(number): tuple(task.get("switches", ())) for number, task in tasks.items()},
            {name: tuple(section.get("training", ())) for name, section in sections.items()},
            tuple(values.get("data", ())),
            tuple(values.get("evaluation", ())),
        )


class Experiment(Strict):
    """An experiment file."""

    name: str | None = Field(None, description="default: the file's stem")
    base: str | None = Field(
        None,
        description="name (STREAM_METHOD[_VARIANT...]) or file whose keys this one takes over and "
        "overrides",
    )
    kind: KindName = Field(description="detection or classification")
    method: str = Field(
        description="; ".join(f"{k}: {', '.join(v.methods)}" for k, v in KINDS.items())
    )
    data: DataConfig = Field(DataConfig(), description="images and annotations")
    tasks: list[list[str]] | None = Field(None, description="class groups, one per task")
    start: str | None = Field(
        None,
        description="folder of a trained model that the tasks go on from; what the file does not "
        "say of clip, training and switches is as the model was trained",
    )
    stream: str | None = Field(
        None, description="a shipped stream (`clclip list`) instead of tasks, e.g. voc_10_10"
    )
    protocol: str | None = Field(None, description="the older word for `stream`")
    text: dict[str, str] = Field({}, description="names used as text where a class name is not one")
    clip: ClipConfig = Field(ClipConfig(), description="the frozen CLIP")
    training: dict[str, Any] = Field({}, description="how a task is trained (see TrainingConfig)")
    per_task: dict[int, TaskOverride] = Field({}, description="by task number: what differs there")
    switches: dict[str, Any] = Field({}, description="the method's own switches")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how it is scored")
    seeds: list[int] = Field([0], description="one run per seed")
    _own: Own | None = PrivateAttr(None)

    @property
    def own(self) -> Own:
        """What the file sets itself; all of it unless ``inheriting`` says otherwise."""
        return Own.of(self.model_dump(exclude_unset=True)) if self._own is None else self._own

    def inheriting(self, values: Mapping[str, Any]) -> Experiment:
        """Return the experiment that sets ``values`` itself and has the rest from its bases."""
        same = self.model_copy()
        same._own = Own.of(values)
        return same

    @property
    def stream_name(self) -> str | None:
        """The shipped stream, by either word for it; None where ``tasks`` say the classes."""
        return self.stream or self.protocol

    @field_validator("name")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not NAME.fullmatch(value):
            expected = "letters, digits, '_', '.', '-' (at most 100), a letter or digit first"
            raise WrongValue(f"name {value!r}", expected)
        if value in RESERVED:
            raise WrongValue(f"name {value!r} is a file's of results/", "another name")
        return value

    @field_validator("tasks")
    @classmethod
    def _groups(cls, value: list[list[str]] | None) -> list[list[str]] | None:
        if value is None:
            return None
        groups = [[check_class(name) for name in group] for group in value]
        check_groups(groups)
        return groups

    @field_validator("text")
    @classmethod
    def _text(cls, value: dict[str, str]) -> dict[str, str]:
        for name, words in value.items():
            check_text(words, f"the text of {name!r}")
        return {check_class(name): words for name, words in value.items()}

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: list[int]) -> list[int]:
        return check_seeds(value)

    @model_validator(mode="after")
    def _cross(self) -> Experiment:
        """Check what no single key can tell."""
        kind, methods = KINDS[self.kind], KINDS[self.kind].methods
        if self.method not in methods:
            hint = nearest(self.method, methods)
            what = f"unknown method {self.method!r} for kind {self.kind!r}{hint}"
            raise WrongValue(what, f"one of {', '.join(methods)}")
        given = [key for key in ("tasks", "stream", "protocol") if getattr(self, key) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "neither tasks nor stream"
            raise WrongValue(what, "either tasks or stream, e.g. tasks: [[cat, dog], [cow]]")
        if self.data.format not in kind.formats:
            fitting = [k.name for k in KINDS.values() if self.data.format in k.formats]
            what = f"data.format {self.data.format!r} is not for kind {self.kind!r}"
            expected = f"one of {', '.join(kind.formats)}, or kind: {' or '.join(fitting)}"
            raise WrongValue(what, expected)
        for key in ("fractions", "image_rule"):
            usual = DataConfig.model_fields[key].default
            if not kind.boxes and getattr(self.data, key) != usual:
                others = " or ".join(repr(k.name) for k in KINDS.values() if k.boxes)
                raise WrongValue(f"data.{key} is for kind {others}", "the key left out")
        return self
