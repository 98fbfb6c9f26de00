"""The typed configuration: what an experiment file may hold.

Pydantic stands at this edge only; everything behind ``clclip.workflow.plan`` sees plain values.
The module is torch-free and imports in well under 0.3 s, because the Snakefile is parsed once for
every job.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clclip.classification.options import METHODS as CLASSIFICATION
from clclip.config.aliases import ALIASES
from clclip.config.clip import ClipConfig
from clclip.core.errors import WrongValue, nearest
from clclip.core.models import (
    MAX_SEED,
    Strict,
    check_class,
    check_groups,
    check_seeds,
    check_text,
)
from clclip.data.shapes.difficulty import Difficulty
from clclip.detection.registry import METHODS as DETECTION

Kind = Literal["detection", "classification"]
METHODS = {"detection": [*DETECTION, *ALIASES], "classification": list(CLASSIFICATION)}
# keys a data format needs, and keys it may have besides
FORMAT_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "shapes": ((), ("world", "draw", "difficulty")),
    "coco": (("root", "train", "test"), ("images", "exif")),
    "voc": (("root",), ("year", "train", "test", "exif")),
    "folder": (("root",), ("train", "test", "class_names", "test_fraction", "split_seed")),
    "cifar100": (("root",), ()),
}
DOWNLOADS = ("voc", "cifar100")
RESERVED = ("figures", "report.html", "report.log", "summary.csv", "table.txt")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class DataConfig(Strict):
    """The images and annotations of an experiment."""

    format: Literal["shapes", "coco", "voc", "folder", "cifar100"] = Field(
        "shapes", description="generated world, COCO json, VOC devkit, image folder or CIFAR-100"
    )
    world: str | None = Field(
        None,
        description="format shapes: which generated world, e.g. clutter20, shapes20, shapes_cil",
    )
    draw: int | None = Field(
        None,
        ge=1,
        le=MAX_SEED,
        description="format shapes: another draw of the world, whose images differ in chance alone",
    )
    difficulty: Difficulty | None = Field(
        None, description="format shapes: knobs of a cluttered world that differ from its own"
    )
    root: str | None = Field(
        None, description="folder of the data set, relative to data_root or to the experiment file"
    )
    images: str | None = Field(None, description="format coco: image folder inside root")
    train: str | None = Field(
        None, description="coco: training json inside root; voc: split name; folder: sub-folder"
    )
    test: str | None = Field(
        None, description="coco: test json inside root; voc: split name; folder: sub-folder"
    )
    year: Literal["2007", "2012"] | None = Field(None, description="format voc: 2007 or 2012")
    class_names: str | None = Field(
        None, description="format folder: file with one line `folder name` per class, inside root"
    )
    test_fraction: float | None = Field(
        None, gt=0, lt=1, description="format folder without test folder: share of test images"
    )
    split_seed: int | None = Field(
        None, ge=0, description="format folder without test folder: seed of that split"
    )
    image_rule: Literal["overlap", "disjoint", "non_cooccurrence", "place"] = Field(
        "overlap",
        description="which images a task may train on when they hold classes of others; place: "
        "those of place t for task t, whatever else they hold (a world with places, or COCO images "
        'with "place": 1, 2, ...)',
    )
    fractions: tuple[float, ...] | None = Field(
        None,
        description="image_rule disjoint: share of the training images that each task is dealt, "
        "whatever they show (CL-DETR's 70+10: 7/8 and 1/8)",
    )
    on_bad_box: Literal["fail", "clip", "skip"] = Field(
        "fail", description="what to do with a box more than 2 px outside its image"
    )
    on_bad_image: Literal["fail", "skip"] = Field(
        "fail", description="what to do with an image that cannot be read"
    )
    exif: Literal["apply", "ignore"] | None = Field(
        None,
        description="photographs with an EXIF orientation: boxes were drawn on the turned view "
        "(apply) or on the stored pixels (ignore); null: sizes and boxes decide",
    )
    links: Literal["follow", "refuse"] = Field(
        "follow",
        description="symbolic links in the data set; refuse those that leave root where the data "
        "is not trusted",
    )
    download: bool = Field(False, description="fetch a published data set when root lacks it")

    @field_validator("year", mode="before")
    @classmethod
    def _year_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _belongs(self) -> DataConfig:
        """Refuse keys that mean nothing for the format, and ask for those it needs."""
        if self.fractions is not None:
            if self.image_rule != "disjoint":
                what = f"fractions with image_rule: {self.image_rule}"
                raise WrongValue(what, "image_rule: disjoint, whose shares they are")
            if min(self.fractions, default=0) <= 0 or math.fsum(self.fractions) > 1 + 1e-9:
                what = f"fractions {list(self.fractions)}"
                raise WrongValue(what, "one a task, above 0, that add up to at most 1")
        if self.download and self.format not in DOWNLOADS:
            what = f"format {self.format!r} has no download"
            raise WrongValue(what, f"download: false, or format {' or '.join(DOWNLOADS)}")
        needed, optional = FORMAT_KEYS[self.format]
        for key in sorted(set().union(*(a + b for a, b in FORMAT_KEYS.values()))):
            given = getattr(self, key) is not None
            if given and key not in needed + optional:
                what = f"key {key!r} has no meaning for format {self.format!r}"
                known = ", ".join(needed + optional) or "no such key"
                raise WrongValue(what, f"of the keys of formats only {known}")
            if not given and key in needed:
                what = f"format {self.format!r} needs the key {key!r}"
                raise WrongValue(what, f"the keys {', '.join(needed)}")
        return self


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


KIND_TRAINING: dict[str, dict[str, Any]] = {
    "detection": {},
    "classification": {
        "epochs": 10,
        "batch_size": 64,
        "optimizer": "adam",
        "weight_decay": 5e-4,
        "warmup_steps": 0,
        "augment": "none",
    },
}


class EvaluationConfig(Strict):
    """How the predictions are scored; named in every output."""

    ap: Literal["voc_area", "voc07", "coco101", "coco"] = Field(
        "voc_area", description="AP50 by area, by 11 points, by COCO's 101 points, or AP[.50:.95]"
    )
    images: Literal["full", "group"] = Field(
        "full", description="all test images, or only those holding a class of the group"
    )


class TaskOverride(Strict):
    """What one task does differently."""

    training: dict[str, Any] = Field({}, description="keys of training that differ in this task")
    switches: dict[str, Any] = Field({}, description="switches that differ in this task")


class Experiment(Strict):
    """An experiment file."""

    name: str | None = Field(None, description="default: the file's stem")
    base: str | None = Field(
        None,
        description="name (STREAM_METHOD[_VARIANT...]) or file whose keys this one takes over and "
        "overrides",
    )
    kind: Kind = Field(description="detection or classification")
    method: str = Field(description="; ".join(f"{k}: {', '.join(m)}" for k, m in METHODS.items()))
    data: DataConfig = Field(DataConfig(), description="images and annotations")
    tasks: list[list[str]] | None = Field(None, description="class groups, one per task")
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
        methods = METHODS[self.kind]
        if self.method not in methods:
            hint = nearest(self.method, methods)
            what = f"unknown method {self.method!r} for kind {self.kind!r}{hint}"
            raise WrongValue(what, f"one of {', '.join(methods)}")
        given = [key for key in ("tasks", "stream", "protocol") if getattr(self, key) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "neither tasks nor stream"
            raise WrongValue(what, "either tasks or stream, e.g. tasks: [[cat, dog], [cow]]")
        if self.kind == "detection" and self.data.format in ("folder", "cifar100"):
            what = f"data.format {self.data.format!r} has no boxes for kind 'detection'"
            raise WrongValue(what, "shapes, coco or voc, or kind: classification")
        if self.kind == "classification" and self.data.format in ("coco", "voc"):
            what = f"data.format {self.data.format!r} is for kind 'detection'"
            raise WrongValue(what, "shapes, folder or cifar100, or kind: detection")
        for key in ("fractions", "image_rule"):
            usual = DataConfig.model_fields[key].default
            if self.kind == "classification" and getattr(self.data, key) != usual:
                raise WrongValue(f"data.{key} is for kind 'detection'", "the key left out")
        return self
