"""``clclip cache``: what ``resources/`` keeps to save time, how large it is, how to be rid of it.

Nothing here is needed: what was evicted is made again when a run asks for it. Torch-free.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clclip.cli.options import RESOURCES
from clclip.core.errors import InputError, nearest

KINDS = {
    "features": "done.json",  # frozen features by id, of a tower over the images of a split
    "tasks": "files.json",  # trained tasks and predictions that experiments share
}
UNFINISHED_HOURS = 1.0  # a folder without marker that was not written to for so long is left over


@dataclass(frozen=True)
class Entry:
    """One folder of a cache."""

    id: str
    kind: str
    bytes: int
    days: float  # since it was last written to
    state: str  # "complete", "in work" or "left over"


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cache``."""
    parser.add_argument("action", choices=("list", "evict"), help="tell, or delete")
    parser.add_argument("ids", nargs="*", metavar="ID", help="evict: these entries")
    parser.add_argument("--kind", choices=tuple(KINDS), default=None, help="only this cache")
    parser.add_argument("--all", action="store_true", help="evict: every entry")
    parser.add_argument("--left-over", action="store_true", help="evict: what killed jobs left")
    text = "evict: what was last written to more than so many days ago"
    parser.add_argument("--older-than", type=float, default=None, metavar="DAYS", help=text)
    parser.add_argument("--resources", type=Path, default=RESOURCES, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="as JSON")


def cache(options: argparse.Namespace) -> None:
    """List the caches of a working directory, or delete some of their entries."""
    found = [e for e in entries(options.resources) if options.kind in (None, e.kind)]
    if options.action == "evict":
        found = chosen(found, options)
        for entry in found:
            evict(options.resources / entry.kind / entry.id)
    elif options.ids or options.all or options.left_over or options.older_than is not None:
        raise InputError("a choice of entries", "cache list", "it with `cache evict`, or --kind")
    if options.json:
        print(json.dumps([asdict(entry) for entry in found], indent=1))
        return
    for entry in found:
        size = f"{entry.bytes / 1e6:10.1f} MB  {entry.days:6.1f} days old"
        print(f"{size}  {entry.state:9}  {entry.kind:8}  {entry.id}")
    total = sum(entry.bytes for entry in found) / 1e6
    verb = "evicted" if options.action == "evict" else "in all"
    print(f"{total:10.1f} MB {verb}, {len(found)} entries")


def entries(resources: Path) -> list[Entry]:
    """Return what the caches of a folder of resources hold, the largest first."""
    found = []
    for kind, marker in KINDS.items():
        folders = sorted(path for path in (resources / kind).glob("*") if path.is_dir())
        found += [_entry(folder, kind, marker) for folder in folders]
    return sorted(found, key=lambda entry: -entry.bytes)


def _entry(folder: Path, kind: str, marker: str) -> Entry:
    """Describe one folder; files that a running job takes away meanwhile count as gone."""
    size, newest, markers = 0, folder.stat().st_mtime, 0
    for path in folder.rglob("*"):
        try:
            facts = path.stat()
        except OSError:
            continue
        newest = max(newest, facts.st_mtime)
        size += facts.st_size if path.is_file() else 0
        markers += path.name == marker and not path.parent.name.startswith(".")
    days = max(0.0, time.time() - newest) / 86_400
    fresh = days * 24 < UNFINISHED_HOURS
    state = "complete" if markers else "in work" if fresh else "left over"
    return Entry(folder.name, kind, size, days, state)


def chosen(found: Sequence[Entry], options: argparse.Namespace) -> list[Entry]:
    """Return the entries to evict; those in work only if they are named.

    Raises:
        InputError: if nothing is chosen, or an id is unknown.
    """
    known = {entry.id for entry in found}
    for name in options.ids:
        if name not in known:
            what = f"no entry {name!r}{nearest(name, known)}"
            raise InputError(what, options.resources, "an id that `clclip cache list` tells")
    if not (options.ids or options.all or options.left_over or options.older_than is not None):
        raise InputError("nothing chosen", "cache evict", "ids, --all, --left-over, --older-than")
    age = float("inf") if options.older_than is None else options.older_than
    return [
        entry
        for entry in found
        if entry.id in options.ids
        or (options.left_over and entry.state == "left over")
        or (entry.state != "in work" and (options.all or entry.days > age))
    ]


def evict(folder: Path) -> None:
    """Delete an entry: it is gone for others at once, and those who have it open read on."""
    away = Path(tempfile.mkdtemp(prefix=".evicted-", dir=folder.parent.parent))
    try:
        folder.rename(away / folder.name)
    finally:
        shutil.rmtree(away, ignore_errors=True)
