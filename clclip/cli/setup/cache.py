"""``clclip cache``: list or evict what is stored in ``resources/``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from clclip.cli.arguments import RESOURCES
from clclip.cli.command import argument, command
from clclip.core.errors import InputError
from clclip.workflow.cache import KINDS


@command(
    "list or evict kept features and shared results; a run makes them again",
    "evict --older-than 30",
    argument("action", choices=("list", "evict"), help="tell, or delete"),
    argument("ids", nargs="*", metavar="ID", help="evict: these entries"),
    argument("--kind", choices=tuple(KINDS), default=None, help="only this cache"),
    argument("--all", action="store_true", help="evict: every entry"),
    argument("--left-over", action="store_true", help="evict: what killed jobs left"),
    argument(
        "--older-than",
        type=float,
        default=None,
        metavar="DAYS",
        help="evict: what was last written to more than so many days ago",
    ),
    RESOURCES,
    argument("--json", action="store_true", help="as JSON"),
)
def run(options: argparse.Namespace) -> None:
    """List the caches of a working directory, or delete some of their entries."""
    from clclip.workflow.cache import chosen, entries, evict

    rows = [e for e in entries(options.resources) if options.kind in (None, e.kind)]
    if options.action == "evict":
        rows = chosen(
            rows,
            options.resources,
            options.ids,
            options.all,
            options.left_over,
            options.older_than,
        )
        for entry in rows:
            evict(options.resources / entry.kind / entry.id)
    elif options.ids or options.all or options.left_over or options.older_than is not None:
        raise InputError("a choice of entries", "cache list", "it with `cache evict`, or --kind")
    if options.json:
        print(json.dumps([asdict(entry) for entry in rows], indent=1))
        return
    for entry in rows:
        size = f"{entry.bytes / 1e6:10.1f} MB  {entry.days:6.1f} days old"
        print(f"{size}  {entry.state:9}  {entry.kind:8}  {entry.id}")
    total = sum(entry.bytes for entry in rows) / 1e6
    verb = "evicted" if options.action == "evict" else "in all"
    print(f"{total:10.1f} MB {verb}, {len(rows)} entries")
