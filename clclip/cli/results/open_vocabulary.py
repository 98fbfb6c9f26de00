"""``clclip open-vocabulary``: AP of later tasks' classes by the cost volume alone."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import ALL_TASKS, RUN
from clclip.cli.command import command
from clclip.cli.measure import measure_run


@command(
    "AP of the classes of later tasks by the cost volume alone, after each task",
    RUN,
    *ALL_TASKS,
)
def run(options: argparse.Namespace) -> None:
    """Measure what is left of the open vocabulary after each task of a run."""
    measure_run("clclip.model.unseen", "detection", options)
