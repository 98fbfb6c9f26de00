"""The section ``data`` of an experiment file."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clclip.core.errors import WrongValue
from clclip.core.models import MAX_SEED, Strict
from clclip.data.shapes.difficulty import Difficulty

# keys a data format needs, and keys it may have besides
FORMAT_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "shapes": ((), ("world", "draw", "difficulty")),
    "coco": (("root", "train", "test"), ("images", "exif")),
    "voc": (("root",), ("year", "train", "test", "exif")),
    "yolo": (("root",), ("train", "test", "class_names", "test_fraction", "split_seed", "exif")),
    "folder": (("root",), ("train", "test", "class_names", "test_fraction", "split_seed")),
    "cifar100": (("root",), ()),
}
DOWNLOADS = ("voc", "cifar100")


class DataConfig(Strict):
    """The images and annotations of an experiment."""

    format: Literal["shapes", "coco", "voc", "yolo", "folder", "cifar100"] = Field(
        "shapes",
        description="generated world, COCO json, VOC devkit, YOLO labels, image folder, CIFAR-100",
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
        None,
        description="coco: training json inside root; voc: split name; yolo: split of data.yaml, "
        "or a folder or list inside root; folder: sub-folder",
    )
    test: str | None = Field(
        None,
        description="coco: test json inside root; voc: split name; yolo: split of data.yaml "
        "(default val, else test), or a folder or list inside root; folder: sub-folder",
    )
    year: Literal["2007", "2012"] | None = Field(None, description="format voc: 2007 or 2012")
    class_names: str | None = Field(
        None,
        description="format folder: file with one line `folder name` per class, inside root; yolo: "
        "the file that names the classes, where it is not data.yaml",
    )
    test_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="format folder or yolo without test images: share of images drawn for it",
    )
    split_seed: int | None = Field(
        None, ge=0, description="format folder or yolo without test images: seed of that split"
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
        if self.test is not None and self.test_fraction is not None:
            what = f"test {self.test!r} and test_fraction {self.test_fraction:g}"
            raise WrongValue(what, "one of them: a folder of test images, or a share drawn for it")
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
