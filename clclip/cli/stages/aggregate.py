"""``clclip aggregate``: the summary of a seed or of an experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import OUT_FILE, RUN
from clclip.cli.command import argument, command
from clclip.core.errors import InputError


@command(
    "summarise the tasks of a seed, or the seeds of an experiment",
    f"--tasks {RUN}/task1 {RUN}/task2 --experiment shapes_10_10_clclip --out summary.json",
    argument("--tasks", type=Path, nargs="+", metavar="DIR", help="task folders: a seed"),
    argument("--summaries", type=Path, nargs="+", metavar="FILE", help="of the seeds"),
    argument("--experiment", help="its name"),
    argument("--dataset"),
    argument("--protocol"),
    OUT_FILE,
)
def run(options: argparse.Namespace) -> None:
    """Summarise a seed (``--tasks``) or an experiment (``--summaries``)."""
    from clclip.evaluation.aggregate import aggregate_experiment, aggregate_seed

    if (options.tasks is None) == (options.summaries is None):
        expected = "either the task folders of a seed or the summaries of the seeds"
        raise InputError("got both or neither", "--tasks, --summaries", expected)
    if options.summaries is not None:
        aggregate_experiment(options.summaries, options.out)
        return
    if options.experiment is None:
        raise InputError("no name", "--experiment", "the experiment's name beside --tasks")
    aggregate_seed(
        options.tasks, options.out, options.experiment, options.dataset, options.protocol
    )
