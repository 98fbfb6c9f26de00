"""``clclip classify``: the classes of images by a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import MODEL_AND_IMAGES, check_images, model_place
from clclip.cli.command import argument, command
from clclip.core.files import check_writable


@command(
    "classify images",
    "--model model/ photos/ --out classes.json",
    *MODEL_AND_IMAGES,
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
    place = model_place(options, "classification", options.task)
    check_images(options)
    from clclip.core.machine import import_quickly

    import_quickly("clclip.model.use.classification")
    from clclip.model.use.classify import classify

    batch = {} if options.batch is None else {"batch": options.batch}
    classify(
        place,
        options.images,
        options.out,
        task=options.task,
        top=options.top_k,
        resources=options.resources,
        recursive=options.recursive,
        on_bad_image=options.on_bad_image,
        **batch,
    )
