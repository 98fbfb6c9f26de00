"""``clclip export``: a trained run as a model folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import FINISHED_RUN, RUN
from clclip.cli.command import argument, command


@command(
    "a trained run as a model folder: card, weights, README",
    f"--run {RUN} --out model --with-tower",
    *FINISHED_RUN,
    argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder: card.json, README.md, a folder per task, the text vectors",
    ),
    argument(
        "--with-tower",
        action="store_true",
        help="add the frozen CLIP, so that neither network nor resources are needed",
    ),
    argument(
        "--with-memory",
        action="store_true",
        help="keep what the method remembers of old data, which learning on needs",
    ),
    argument(
        "--onnx",
        action="store_true",
        help="add model.onnx, from pixels to boxes or probabilities, its tower inside (extra onnx)",
    ),
    argument(
        "--resources",
        type=Path,
        default=None,
        metavar="DIR",
        help="default: resources beside the run's results, else in the working directory",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Write a model folder."""
    from clclip.model.folder import check_free

    check_free(options.out)
    if options.onnx:
        from clclip.model.onnx.writing import check_onnx

        check_onnx()
    from clclip.model.export import export

    card = export(
        options.run,
        options.out,
        options.task,
        with_tower=options.with_tower,
        with_memory=options.with_memory,
        onnx=options.onnx,
        resources=options.resources,
    )
    print(f"{options.out}: {len(card['classes'])} classes in {len(card['parts'])} parts")
