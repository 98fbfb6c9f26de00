"""``clclip report``: the HTML page, the table and the figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import OUT_FILE, from_json
from clclip.cli.command import argument, command


@command(
    "write the HTML page, the table and the figures",
    "--summaries results/*/summary.json --out results/report.html",
    argument("--summaries", type=Path, nargs="+", required=True, metavar="FILE"),
    argument("--style", default="{}", help="looks as JSON"),
    OUT_FILE,
)
def run(options: argparse.Namespace) -> None:
    """Write the report; by hand, print the table too (the workflow prints it at its end)."""
    from clclip.config.run import ReportStyle
    from clclip.core.models import parse
    from clclip.report.page import report

    style = parse(ReportStyle, from_json(options.style, "--style", dict), "--style")
    table = report(options.summaries, options.out, style.model_dump())
    if options.log is None:
        print(f"{table}\nreport: {options.out}")
