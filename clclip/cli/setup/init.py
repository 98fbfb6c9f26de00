"""``clclip init``: an experiment file for a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.command import argument, command


@command(
    "write a commented experiment file for a data set (COCO, VOC, YOLO, or a folder a class)",
    "photographs --tasks 3",
    argument("data", type=Path, metavar="DATA", help="the folder of the data set"),
    argument("--out", type=Path, default=None, metavar="FILE", help="default: DATA's name, .yaml"),
    argument("--tasks", type=int, default=2, metavar="N", help="groups of classes (default: 2)"),
    argument(
        "--format",
        default=None,
        choices=("coco", "voc", "yolo", "folder"),
        help="where more than one fits",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Write the file and tell what it holds and what to type next."""
    from clclip.workflow.start.experiment_file import init, summary_text

    print(summary_text(init(options.data, options.out, options.format, options.tasks)))
