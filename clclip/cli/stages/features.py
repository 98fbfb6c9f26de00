"""``clclip features``: the frozen features of a tower, dense for detectors or a vector an image."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import OUT_FOLDER
from clclip.cli.command import argument, command
from clclip.core.errors import InputError


@command(
    "compute a tower's frozen features once",
    "--data resources/data/ID --clip resources/clip/ID --split train --size 128 "
    "--dense tokens --taps 1,2,3 --flip --out DIR",
    argument("--data", type=Path, required=True, metavar="DIR", help="indexed data set"),
    argument("--clip", type=Path, required=True, metavar="DIR"),
    argument("--split", choices=("train", "test"), required=True),
    argument("--size", type=int, required=True, help="side of the canvas in px"),
    argument(
        "--dense",
        required=True,
        help="dense mode, e.g. tokens; image: one vector an image, for closed-form classifiers; "
        "moments: the same with the spread of its tokens",
    ),
    argument("--taps", required=True, help="blocks, e.g. 1,2,3; image: none, or from 1"),
    argument("--flip", action="store_true", help="mirrored images besides"),
    OUT_FOLDER,
)
def run(options: argparse.Namespace) -> None:
    """Compute the features."""
    from clclip.classification.features.layout import WHOLE
    from clclip.core.machine import import_quickly
    from clclip.workflow.gpu_slots import devices

    image = options.dense in WHOLE
    try:
        taps = [int(part) for part in options.taps.split(",") if part or not image]
    except ValueError:
        raise InputError(f"got {options.taps!r}", "--taps", "numbers, e.g. 1,2,3") from None
    if image:
        return _image_features(options, taps)
    if not 16 <= options.size <= 4096:
        raise InputError(f"got {options.size}", "--size", "16 to 4096 px")
    with devices():
        import_quickly("clclip.clip.load")
        from clclip.clip.features import build_features

        build_features(
            options.data,
            options.clip,
            options.split,
            options.out,
            size=options.size,
            dense=options.dense,
            taps=taps,
            flip=options.flip,
        )


def _image_features(options: argparse.Namespace, taps: list[int]) -> None:
    """Compute a store of features of whole images, as closed-form tasks read it."""
    from clclip.classification.features.layout import MOMENTS
    from clclip.core.machine import import_quickly
    from clclip.workflow.gpu_slots import devices

    if options.size and not 16 <= options.size <= 4096:
        raise InputError(f"got {options.size}", "--size", "16 to 4096 px, or 0: the tower's own")
    with devices():
        import_quickly("clclip.clip.load")
        from clclip.classification.features.builder import build_image_features

        given = (options.data, options.clip, options.split, options.out, options.size)
        spread = options.dense == MOMENTS
        build_image_features(*given, mirror=options.flip, taps=taps, spread=spread)
