"""``clclip detect``: objects in images, found by the model of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import RUN, RUN_AND_IMAGES
from clclip.cli.command import argument, command
from clclip.core.files import check_writable


@command(
    "detect objects in images",
    f"--run {RUN} photo.jpg --out boxes",
    *RUN_AND_IMAGES,
    argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the images with their boxes drawn, of detections.json, a list of COCO "
        "results (image_id, category_id, bbox as x, y, width, height, score; image and class by "
        "name), and of dataset.json, the same as a COCO data set with images and categories",
    ),
    argument(
        "--classes",
        action="append",
        metavar="NAMES",
        help="only these, separated by commas; may be repeated, as for a name that holds a comma",
    ),
    argument("--threshold", type=float, default=0.5, help="lowest score shown"),
)
def run(options: argparse.Namespace) -> None:
    """Detect objects in images."""
    check_writable(options.out, folder=True)
    from clclip.detection.tools.detect import detect

    chosen = (options.task, options.classes, options.threshold, options.resources)
    detect(options.run, options.images, options.out, *chosen)
