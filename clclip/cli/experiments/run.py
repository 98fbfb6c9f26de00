"""``clclip run``: the workflow, in any folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.command import argument, command


@command(
    "run experiments in this folder: the workflow as `snakemake` in a clone starts it",
    "shapes_10_10_clclip mine.yaml --seeds 0,1,2 -- --dry-run",
    argument(
        "experiment",
        nargs="*",
        help="STREAM_METHOD[_VARIANT...] or experiment files; none: the default run. What follows "
        "`--` are options of snakemake",
    ),
    argument("--smoke", action="store_true", help="the tiny run, within a minute"),
    argument("--data-root", default=None, metavar="DIR"),
    argument("--seeds", default=None, help="e.g. 0,1,2"),
    passes_on=True,
)
def run(options: argparse.Namespace) -> None:
    """Start the workflow."""
    from clclip.workflow.start import launch

    line = launch.command(
        options.experiment,
        options.passed_on,
        smoke=options.smoke,
        seeds=options.seeds,
        data_root=options.data_root,
    )
    launch.check_options(options.passed_on)
    launch.run(line, Path.cwd())
