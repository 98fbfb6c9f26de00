"""``clclip split``: the images and labels of a task."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import TASK, TASK_STAGE
from clclip.cli.command import command


@command(
    "write the images and labels of a task",
    f"--task {TASK}",
    *TASK_STAGE,
)
def run(options: argparse.Namespace) -> None:
    """Write train.json and test.json of a task."""
    from clclip.data.checks.unnamed import check_task
    from clclip.data.split import split_task

    check_task(options.task, options.resources)
    split_task(options.task, options.resources)
