"""``clclip detect``: detect objects in images with a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import MODEL_AND_IMAGES, check_images, model_place
from clclip.cli.command import argument, command
from clclip.core.files import check_writable


@command(
    "detect objects in images",
    "--model model/ photos/ --recursive --out boxes",
    *MODEL_AND_IMAGES,
    argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the images with their boxes drawn (what an earlier call wrote there is "
        "replaced unless somebody changed it), of detections.json, a list of COCO "
        "results (image_id, category_id, bbox as x, y, width, height, score; image and class by "
        "name), and of dataset.json, the same as a COCO data set with images and categories",
    ),
    argument(
        "--classes",
        action="append",
        metavar="NAMES",
        help="only these, separated by commas; may be repeated, as for a name that holds a comma",
    ),
    argument(
        "--threshold",
        type=float,
        default=None,
        help="lowest score shown; default: each class's own, 0.5 where it has none",
    ),
    argument("--crops", action="store_true", help="write each object to crops/CLASS/ too"),
    argument(
        "--format",
        default=None,
        metavar="NAMES",
        help="of coco (always), yolo, voc, label-studio, separated by commas",
    ),
    argument(
        "--also",
        action="append",
        default=[],
        metavar="NAMES",
        help="names that were never trained, separated by commas: scored by the frozen CLIP in the "
        "model's own boxes and marked",
    ),
    argument("--every", type=int, default=None, metavar="N", help="of a video, every N-th frame"),
)
def run(options: argparse.Namespace) -> None:
    """Detect objects in images."""
    check_writable(options.out, folder=True)
    place = model_place(options, "detection", options.task)
    check_images(options)
    from clclip.data.writers.formats import chosen_formats

    formats = chosen_formats(options.format)
    from clclip.core.machine import import_quickly

    import_quickly("clclip.model.use.detection")
    from clclip.model.use.detect import detect

    batch = {} if options.batch is None else {"batch": options.batch}
    detect(
        place,
        options.images,
        options.out,
        task=options.task,
        classes=options.classes,
        threshold=options.threshold,
        resources=options.resources,
        recursive=options.recursive,
        on_bad_image=options.on_bad_image,
        crops=options.crops,
        also=options.also,
        formats=formats,
        every=options.every,
        **batch,
    )
