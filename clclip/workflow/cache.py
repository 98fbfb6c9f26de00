"""``clclip cache``: what ``resources/`` keeps to save time, how large it is, how to delete it.

Nothing here is needed: what was evicted is made again when a run asks for it. Torch-free.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def entries(resources: Path) -> list[Entry]:
    """Return what the caches of a folder of resources hold, the largest first."""
    rows = []
    for kind, marker in KINDS.items():
        folders = sorted(path for path in (resources / kind).glob("*") if path.is_dir())
        rows += [_entry(folder, kind, marker) for folder in folders]
    return sorted(rows, key=lambda entry: -entry.bytes)


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


def chosen(
    rows: Sequence[Entry],
    resources: Path,
    ids: Sequence[str] = (),
    everything: bool = False,
    left_over: bool = False,
    older_than: float | None = None,
) -> list[Entry]:
    """Return the entries to evict; those in work only if they are named.

    Args:
        rows: what there is.
        resources: their folder, for messages.
        ids: entries by name.
        everything: all that are not in work.
        left_over: what killed jobs left.
        older_than: what was last written to more than so many days ago.

    Raises:
        InputError: if nothing is chosen, an id is unknown, or an age is negative.
    """
    if older_than is not None and not older_than >= 0:
        raise InputError(f"--older-than {older_than:g}", "cache evict", "a number of days from 0")
    known = {entry.id for entry in rows}
    for name in ids:
        if name not in known:
            what = f"no entry {name!r}{nearest(name, known)}"
            raise InputError(what, resources, "an id that `clclip cache list` tells")
    if not (ids or everything or left_over or older_than is not None):
        raise InputError("nothing chosen", "cache evict", "ids, --all, --left-over, --older-than")
    age = float("inf") if older_than is None else older_than
    return [
        entry
        for entry in rows
        if entry.id in ids
        or (left_over and entry.state == "left over")
        or (entry.state != "in work" and (everything or entry.days > age))
    ]


def evict(folder: Path) -> None:
    """Delete an entry: it is gone for others at once, and those who have it open read on."""
    away = Path(tempfile.mkdtemp(prefix=".evicted-", dir=folder.parent.parent))
    try:
        folder.rename(away / folder.name)
    finally:
        shutil.rmtree(away, ignore_errors=True)
