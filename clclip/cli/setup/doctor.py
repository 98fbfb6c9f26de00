"""``clclip doctor``: is this machine fit for a run?"""

from __future__ import annotations

import argparse
import json
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

    findings = examine(Path.cwd(), network=not options.offline)
    if options.json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=1))
    else:
        print("\n".join(report(findings)))
    bad = [finding for finding in findings if finding.state == "bad"]
    if bad:
        raise InputError(f"{bad[0].subject}: {bad[0].value}", "this machine", bad[0].advice)
