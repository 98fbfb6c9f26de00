"""``clclip export``: one weights file and a card."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import FINISHED_RUN, RUN
from clclip.cli.command import argument, command


@command(
    "one weights file and a card",
    f"--run {RUN} --out model",
    *FINISHED_RUN,
    argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the weights, .safetensors; the card lies beside them, .json",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Write one weights file and its card."""
    from clclip.detection.tools.export import export

    export(options.run, options.out, options.task)
