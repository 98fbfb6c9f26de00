"""``clclip prepare``: generate or verify and index a data set."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import OUT_FOLDER, from_json
from clclip.cli.command import argument, command


@command(
    "generate or verify and index a data set",
    """--spec '{"format":"shapes","id":"shapes20-v1","world":"shapes20"}' --out DIR""",
    argument("--spec", required=True, help="the data set as JSON: `spec` of `describe --json`"),
    OUT_FOLDER,
)
def run(options: argparse.Namespace) -> None:
    """Prepare the data set."""
    from clclip.data.prepare import prepare

    prepare(from_json(options.spec, "--spec", dict), options.out)
