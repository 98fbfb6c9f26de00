"""``clclip label``: boxes of old classes on new images, and corrections read back."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import MODEL, TASK_OF_RUN, TOWER, model_place
from clclip.cli.command import argument, command
from clclip.core.errors import InputError
from clclip.core.files import check_writable


@command(
    "boxes of a model's classes on newly labelled images, for review; corrections read back",
    "--model model/ --data new.json --out both.json",
    MODEL,
    TASK_OF_RUN,
    TOWER,
    argument("--data", type=Path, required=True, metavar="FILE", help="COCO json of new images"),
    argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="COCO json: the labels, and boxes with a score where no label explains what the model "
        "sees; the same as tasks for Label Studio in NAME.label-studio.json",
    ),
    argument("--images", type=Path, default=None, metavar="DIR", help="default: beside the json"),
    argument("--threshold", type=float, default=None, help="default: each class's own"),
    argument("--overlap", type=float, default=0.5, help="IoU from which on a label explains a box"),
    argument(
        "--corrected",
        type=Path,
        default=None,
        metavar="FILE",
        help="in place of a model: Label Studio's JSON export of --data, or a COCO json of another "
        "tool; the boxes of its images replace those in --data",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Suggest boxes, or read corrected ones back."""
    check_writable(options.out)
    if options.corrected is not None:
        if options.model is not None or options.run is not None:
            raise InputError("both", "--corrected, --model", "one of the two")
        from clclip.model.label import read_back

        result = read_back(options.data, options.corrected, options.out)
        waiting = f"; {result.open} not looked at keep theirs" if result.open else ""
        print(f"{result.reviewed} images corrected{waiting}: {options.out}")
        return
    place = model_place(options, "detection", options.task)
    from clclip.model.label import label

    made = label(
        place,
        options.data,
        options.out,
        images=options.images,
        threshold=options.threshold,
        overlap=options.overlap,
        task=options.task,
        resources=options.resources,
    )
    added = sum(box.get("origin") == "model" for box in made["annotations"])
    print(f"{added} boxes added to {len(made['images'])} images: {options.out}")
