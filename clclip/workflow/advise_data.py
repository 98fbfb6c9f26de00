"""What ``clclip advise`` looks at: training images and a CLIP, of a folder or an experiment."""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from clclip.classification.tools.advise import FEWEST
from clclip.config.clip import ClipConfig
from clclip.config.load import read_experiment
from clclip.core.artifacts import ClipSource
from clclip.core.errors import InputError
from clclip.core.models import parse
from clclip.core.names import canonical_name
from clclip.data.checks.findings import Findings
from clclip.data.readers import folder
from clclip.data.readers.class_folders import images_below, sub_folders
from clclip.model.kinds import KINDS
from clclip.workflow.plan import RunPlan, add_as_planned
from clclip.workflow.start.recognise import box_format, check_not_top

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """Training images, their classes and the CLIP to look with.

    Attributes:
        paths: image files.
        labels: the class of each.
        words: text of a class where its name is not one.
        clip: the CLIP as ``fetch_clip`` takes it, with its id, or the folder of a fetched one.
        size: side of the images in px, or None.
    """

    paths: list[Path]
    labels: list[str]
    words: dict[str, str]
    clip: ClipSource | Path
    size: int | None


def of_folder(place: Path, clip: str | None) -> Asked:
    """Return the training images below a folder: ``train/CLASS/*`` or ``CLASS/*``.

    Args:
        place: the folder.
        clip: a folder that ``clclip fetch-clip`` wrote, the JSON that it takes, or None: embedded.

    Raises:
        InputError: if the folder holds boxes, less than two classes or one of fewer than five
            images, or is ``/``.
    """
    check_not_top(place)
    if boxes := box_format(place):
        expected = "a folder of photographs for each class; for boxes, `clclip init` writes an "
        raise InputError(f"boxes ({boxes})", place, f"{expected}experiment of detection")
    name = "train" if (place / "train").is_dir() else "."
    spec = {"format": "folder", "root": str(place), "train": name, "test_fraction": 0.2}
    labelled = folder.read_splits(spec | {"split_seed": 0})
    _check_classes(place / name, labelled)
    splits = labelled.images
    images = sorted(splits["train"] + splits["test"], key=lambda image: image["file_name"])
    paths = [place / image["file_name"] for image in images]
    return Asked(paths, [image["label"] for image in images], {}, _clip(clip), None)


def _check_classes(home: Path, labelled: folder.Labelled) -> None:
    """Refuse a class folder of too few images, and one class alone; tell of folders without any.

    The reader leaves out what no task could use, in silence: a run says of it what matters, but
    here all that the folder holds is asked about.
    """
    folders = {canonical_name(name): name for name in sub_folders(home)}
    for name, error in labelled.unfit.items():
        images: list[str] = []
        with contextlib.suppress(InputError):
            images = images_below(home / folders[name], Findings())
        if images:
            what = f"class {name!r} has {len(images)} image{'s' if len(images) > 1 else ''}"
            raise InputError(what, home / folders[name], f"at least {FEWEST} images a class")
        logger.warning("left out: %s", error)
    if len(labelled.classes) > 1:
        return
    (only,) = labelled.classes
    inside = home / folders[only]
    hint = f"; is {inside} the folder that was meant?" if sub_folders(inside) else ""
    expected = f"at least two classes, a folder of images for each{hint}"
    raise InputError(f"one class ({only!r})", home, expected)


def of_experiment(file: Path, resources: Path, clip: str | None) -> Asked:
    """Return the training images and the CLIP of an experiment file.

    Raises:
        InputError: if the file is wrong or of detection, or its data is missing.
    """
    from clclip.data.index import read_index, read_split
    from clclip.data.prepare import prepare

    experiment, base = read_experiment(file)
    if KINDS[experiment.kind].boxes:
        raise InputError(f"kind {experiment.kind!r}", file, "an experiment of classification")
    plan = RunPlan()
    planned = add_as_planned(plan, experiment, experiment.seeds[:1], base, file)
    (spec,), task = plan.data.values(), planned.tasks[experiment.seeds[0], planned.numbers[-1]]
    home = resources / "data" / spec["id"]
    if not (home / "index.json").is_file():
        prepare(spec, home)
    split = read_split(home / "train.json", "classification")
    root = home / read_index(home)["root"]
    wanted = {name for group in task.payload["groups"] for name in group}
    images = [image for image in split["images"] if image["label"] in wanted]
    own = _clip(clip) if clip else next(iter(plan.clips.values()))
    size = task.payload["training"]["image_size"]
    paths = [root / image["file_name"] for image in images]
    return Asked(paths, [i["label"] for i in images], task.payload["text"], own, size)


def _clip(given: str | None) -> ClipSource | Path:
    """Return the CLIP that ``--clip`` names."""
    from clclip.clip.own.settle import resolve_clip

    if given and Path(given).is_dir():
        return Path(given)
    try:
        values = json.loads(given or "{}")
    except ValueError:
        expected = 'the folder of a CLIP, or JSON such as {"model":"ViT-B-16","tag":"openai"}'
        raise InputError(f"no such folder {given!r}", "--clip", expected) from None
    return resolve_clip(parse(ClipConfig, values, "--clip").given())
