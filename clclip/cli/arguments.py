"""Options that several commands share, and the reading of those that are JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from clclip.cli.command import Argument, OneOf, argument
from clclip.core.errors import InputError

RUN = "results/shapes_10_10_clclip/seed0"  # as examples call a run and a task
TASK = f"{RUN}/task1/task.json"

RESOURCES = argument("--resources", type=Path, default=Path("resources"), metavar="DIR")
RESULT = argument("--out", type=Path, default=None, metavar="FILE", help="result as JSON")
OUT_FILE = argument("--out", type=Path, required=True, metavar="FILE")
OUT_FOLDER = argument("--out", type=Path, required=True, metavar="DIR")

# A stage that works on one task.
TASK_STAGE = (
    argument("--task", type=Path, required=True, metavar="FILE", help="its task.json"),
    RESOURCES,
    argument(
        "--attempt",
        type=int,
        default=1,
        metavar="N",
        help="from 2 on: end at once if the log says that the last attempt met bad input; train in "
        "micro-batches of half the size each time (a step's gradient is the same up to rounding)",
    ),
)

# A command that uses the model of a finished run.
FINISHED_RUN = (
    argument("--run", type=Path, required=True, metavar="DIR", help="results/NAME/seed0"),
    argument("--task", type=int, default=None, metavar="T", help="default: the last"),
)

MODEL = OneOf(
    (
        argument("--model", type=Path, metavar="DIR", help="a model folder, of `export`"),
        argument("--run", type=Path, metavar="DIR", help="results/NAME/seed0"),
    )
)
TASK_OF_RUN = argument(
    "--task", type=int, default=None, metavar="T", help="of a run; default: the last"
)
TOWER = argument(
    "--resources",
    type=Path,
    default=None,
    metavar="DIR",
    help="where the frozen tower lies; default: in the model or beside the run's results, else in "
    "the working directory",
)

# A command that looks at images with a model.
MODEL_AND_IMAGES = (
    MODEL,
    TASK_OF_RUN,
    argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help='files, folders, patterns in quotes ("photos/**/*.jpg"), or a .txt that lists files',
    ),
    argument("--recursive", action="store_true", help="look into the folders of folders"),
    argument("--batch", type=int, default=None, metavar="N", help="images of a forward pass"),
    argument(
        "--on-bad-image",
        choices=("fail", "skip"),
        default="fail",
        help="an image that cannot be read ends all (default), or is left out and listed",
    ),
    TOWER,
)


def model_place(options: argparse.Namespace, kind: str, task: int | None = None) -> Path:
    """Return the model folder or the run that a command uses, once it was checked.

    Args:
        options: of the command line.
        kind: "detection" or "classification", which it must be of.
        task: the task of a run that is asked for; None: its last.

    Raises:
        InputError: if none is given, or it is none of that kind.
    """
    place: Path | None = options.model if options.model is not None else options.run
    if place is None:
        expected = "--model DIR, or --run results/NAME/seed0"
        raise InputError("no model", "the command line", expected)
    from clclip.model.place import check_place

    check_place(place, task, kind)
    return place


def check_clip(folder: Path) -> None:
    """Refuse a folder that is no fetched CLIP.

    Raises:
        InputError: if it lacks clip.json, or that is damaged.
    """
    from clclip.core.artifacts import read_clip

    if not (folder / "clip.json").is_file():
        what = "no clip.json" if folder.is_dir() else "no such folder"
        raise InputError(what, folder, "the folder of a CLIP, as `clclip fetch-clip` writes it")
    read_clip(folder)


def check_images(options: argparse.Namespace) -> None:
    """Refuse images of the command line that are not there.

    Raises:
        InputError: if there is none, or one is missing.
    """
    from clclip.data.own_images import find_images

    find_images(options.images, options.recursive)


# A command that measures all tasks of a run.
ALL_TASKS = (
    argument("run", type=Path, metavar="RUN", help="results/NAME/seed0, all tasks done"),
    argument("--out", type=Path, default=None, help="write the rows there as JSON too"),
    RESOURCES,
)


def probe_options(images: str) -> tuple[Argument, ...]:
    """Return the options of a command that measures a CLIP on so many images by default."""
    text = f"the first N images of the test split, from 1 (default: {images})"
    return (
        argument("--data", type=Path, default=None, metavar="DIR", help="default: shapes20"),
        argument("--clip", type=Path, default=None, metavar="DIR", help="default: embedded"),
        RESOURCES,
        argument("--images", type=int, default=None, metavar="N", help=text),
        RESULT,
    )


def from_json(text: str, option: str, expected: type) -> Any:
    """Read an option's JSON.

    Raises:
        InputError: if it is not JSON of the expected type.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", option, "JSON text") from None
    if not isinstance(value, expected):
        raise InputError(f"got {type(value).__name__}", option, f"a JSON {expected.__name__}")
    return value
