"""``clclip calibrate``: scores that mean something, and a threshold per class."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import MODEL, TOWER, model_place
from clclip.cli.command import argument, command
from clclip.core.errors import InputError, WrongValue


@command(
    "fit scores and a threshold per class to images that training did not see",
    "--model model/ --data held_out.json",
    MODEL,
    TOWER,
    argument(
        "--task",
        type=int,
        default=None,
        metavar="T",
        help="calibrate the classes of this task alone (default: those of all)",
    ),
    argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="COCO json, or folder or data.yaml of a YOLO data set (its val split), in which all "
        "objects of the model's classes are labelled",
    ),
    argument("--images", type=Path, default=None, metavar="DIR", help="default: beside the json"),
    argument(
        "--objective",
        default="f1",
        metavar="WORD",
        help="what thresholds are chosen for: f1, or precision:0.9 (default: f1)",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Calibrate a model; calibration.json beside the weights of each part."""
    place = model_place(options, "detection")
    from clclip.evaluation.calibrated.objective import Objective

    try:
        objective = Objective.read(options.objective)
    except WrongValue as error:
        raise InputError(error.what, "--objective", error.expected) from None
    from clclip.model.calibrate import calibrate

    outcome = calibrate(
        place,
        options.data,
        images=options.images,
        objective=objective,
        task=options.task,
        resources=options.resources,
    )
    print(outcome.as_text())
