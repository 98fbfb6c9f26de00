"""What ``clclip advise`` looks at: training images and a CLIP, of a folder or an experiment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from clclip.config.clip import ClipConfig
from clclip.config.load import read_experiment
from clclip.core.artifacts import ClipSource
from clclip.core.errors import InputError
from clclip.core.models import parse
from clclip.data.readers import folder
from clclip.model.kinds import KINDS
from clclip.workflow.plan import RunPlan, add_experiment
from clclip.workflow.start.recognise import check_not_top


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
        InputError: if the folder holds no classes, or is ``/``.
    """
    check_not_top(place)
    root, name = (place, "train") if (place / "train").is_dir() else (place.parent, place.name)
    spec = {"format": "folder", "root": str(root), "train": name, "test_fraction": 0.2}
    splits = folder.read_splits(spec | {"split_seed": 0}).images
    images = sorted(splits["train"] + splits["test"], key=lambda image: image["file_name"])
    paths = [root / image["file_name"] for image in images]
    return Asked(paths, [image["label"] for image in images], {}, _clip(clip), None)


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
    planned = add_experiment(plan, experiment, experiment.seeds[:1], base, file)
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
