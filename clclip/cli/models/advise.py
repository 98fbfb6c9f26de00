"""``clclip advise``: which classifier suits a folder of images."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from clclip.cli.arguments import RESOURCES, RESULT, check_clip
from clclip.cli.command import argument, command
from clclip.core.errors import InputError
from clclip.core.files import check_writable, write_text

logger = logging.getLogger(__name__)


@command(
    "which classifier suits a folder of images: frozen features, nothing trained, a minute",
    "photos --clip resources/clip/vit-b-16-openai",
    argument(
        "place",
        type=Path,
        metavar="FOLDER|FILE",
        help="folder of class folders, or with train/ in it, or an experiment file",
    ),
    argument(
        "--clip",
        default=None,
        metavar="CLIP",
        help="folder of a CLIP, or JSON as of fetch-clip; default: the experiment's, else embedded",
    ),
    RESOURCES,
    argument(
        "--seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="end within so long, a download not counted: images and folds are left out for it "
        "(at least five images a class are looked at)",
    ),
    RESULT,
)
def run(options: argparse.Namespace) -> None:
    """Tell which classifier suits a folder of images or an experiment's."""
    from clclip.classification.tools.advise import advise, as_text, check_enough, check_images
    from clclip.classification.tools.time_limit import TimeLimit
    from clclip.core.machine import import_quickly
    from clclip.workflow.advise_data import of_experiment, of_folder

    place = options.place
    if not options.seconds > 0:
        raise InputError(f"got {options.seconds}", "--seconds", "a number above 0")
    limit = TimeLimit(options.seconds)
    if options.out is not None:
        check_writable(options.out)
    if place.is_dir():
        asked = of_folder(place, options.clip)
    elif place.is_file():
        asked = of_experiment(place, options.resources, options.clip)
    else:
        raise InputError("no such folder or file", place, "a folder of images or an experiment")
    check_enough(asked.labels)  # before a CLIP is fetched for nothing, and torch is imported
    check_images(asked.paths, asked.labels)
    if isinstance(asked.clip, Path):
        check_clip(asked.clip)
    counts = (len(asked.labels), len(set(asked.labels)))
    logger.info("%d images of %d classes; the CLIP is loaded", *counts)
    import_quickly("clclip.clip.load")
    from clclip.clip.fetch import fetch_clip
    from clclip.clip.load import load_clip

    if isinstance(asked.clip, Path):
        home = asked.clip
    else:
        home = options.resources / "clip" / asked.clip["id"]
        if not (home / "clip.json").is_file():
            with limit.stopped():
                fetch_clip(asked.clip, home)
    advice = advise(load_clip(home), asked.paths, asked.labels, asked.words, asked.size, limit)
    if options.out is not None:
        write_text(options.out, json.dumps(advice.values(), indent=1) + "\n")
    print(as_text(advice))
