"""``clclip resolve``: write task.json, whole, exactly as planned."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import from_json
from clclip.cli.command import argument, command
from clclip.core.files import write_text


@command(
    "write a task's resolved plan",
    "--json '{...}' --out task.json",
    argument("--json", required=True, help="the task as JSON"),
    argument("--out", type=Path, required=True, metavar="FILE", help="task.json"),
)
def run(options: argparse.Namespace) -> None:
    """Write task.json."""
    from clclip.core.digest import canonical
    from clclip.core.task import check_task

    task = from_json(options.json, "--json", dict)
    check_task(task, "--json")
    write_text(options.out, canonical(task) + "\n")
