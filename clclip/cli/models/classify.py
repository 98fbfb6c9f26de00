"""``clclip classify``: the classes of images by the model of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import RUN, RUN_AND_IMAGES
from clclip.cli.command import argument, command
from clclip.core.files import check_writable


@command(
    "classify images",
    f"--run {RUN} photo.jpg --out classes.json",
    *RUN_AND_IMAGES,
    argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON: a list of image and classes, each of class and probability, the likeliest "
        "first",
    ),
    argument("--top-k", type=int, default=5, help="classes listed per image"),
)
def run(options: argparse.Namespace) -> None:
    """Classify images."""
    check_writable(options.out)
    from clclip.classification.tools.classify import classify

    chosen = (options.task, options.top_k, options.resources)
    classify(options.run, options.images, options.out, *chosen)
