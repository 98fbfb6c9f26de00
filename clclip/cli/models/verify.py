"""``clclip verify``: whether a new model leaves the old classes as they were."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from clclip.cli.arguments import RESULT, check_images
from clclip.cli.command import argument, command
from clclip.core.files import check_writable, write_text


@command(
    "prove that a new model leaves the old classes as they were; status 1 if not",
    "model model_2 photos --out proof.json",
    argument("old", type=Path, metavar="OLD", help="a model folder, or results/NAME/seed0"),
    argument("new", type=Path, metavar="NEW", help="likewise"),
    argument("images", type=Path, nargs="+", metavar="IMAGE", help="files, folders, patterns"),
    argument("--recursive", action="store_true", help="look into the folders of folders"),
    argument(
        "--batch",
        type=int,
        default=None,
        metavar="N",
        help="images of a forward pass, the same for both (default: 8)",
    ),
    argument("--resources", type=Path, default=None, metavar="DIR", help="where the towers lie"),
    RESULT,
)
def run(options: argparse.Namespace) -> int:
    """Compare two models class by class; return 1 if an old class has changed."""
    if options.out is not None:
        check_writable(options.out)
    from clclip.core.machine import import_quickly
    from clclip.model.place import check_place

    check_place(options.old)
    check_place(options.new)
    check_images(options)
    import_quickly("clclip.model.use.detection")
    from clclip.model.verify import BATCH, as_text, verify

    verification = verify(
        options.old,
        options.new,
        options.images,
        batch=BATCH if options.batch is None else options.batch,
        recursive=options.recursive,
        resources=options.resources,
    )
    if options.out is not None:
        write_text(options.out, json.dumps(verification.as_dict(), indent=1) + "\n")
    print(as_text(verification))
    return 0 if verification.passed else 1
