"""``clclip watch``: a running workflow on the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.command import argument, command


@command(
    "show a running workflow on the terminal: tasks, progress, losses, time left",
    "results --once",
    argument("results", type=Path, nargs="?", default=Path("results"), help="default: results"),
    argument("--once", action="store_true", help="print once and end"),
    argument("--every", type=float, default=2.0, metavar="SECONDS", help="refresh"),
)
def run(options: argparse.Namespace) -> None:
    """Show a running workflow until it has ended or the reader presses Ctrl-C."""
    from clclip.report.watch import watch

    watch(options.results, options.once, options.every, lambda text: print(text, flush=True))
