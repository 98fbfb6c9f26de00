"""``clclip doctor``: is this machine fit for a run?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from clclip.cli.command import argument, command
from clclip.core.errors import InputError


@command(
    "is this machine fit for a run? versions, GPU, folders, locale, network; what to do if not",
    "--offline",
    argument("--json", action="store_true", help="as JSON"),
    argument("--offline", action="store_true", help="do not try the network"),
)
def run(options: argparse.Namespace) -> None:
    """Print a line a question; exit status 2 if a run would fail."""
    from clclip.workflow.start.doctor import examine, report

    found = examine(Path.cwd(), network=not options.offline)
    if options.json:
        print(json.dumps([asdict(finding) for finding in found], indent=1))
    else:
        print("\n".join(report(found)))
    bad = [finding for finding in found if finding.state == "bad"]
    if bad:
        raise InputError(f"{bad[0].subject}: {bad[0].found}", "this machine", bad[0].advice)
