"""Symbolic links in a data set: followed and counted, or refused where they leave its folder.

Hub caches, DVC and scripts that make subsets lay out images as links into a store.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError


def real_paths(folder: Path, names: Iterable[str]) -> list[str]:
    """Return where each file of ``folder`` really lies, all links followed."""
    homes: dict[str, str] = {}
    paths = []
    for name in names:
        parent, last = os.path.split(os.path.join(folder, name))
        if parent not in homes:
            homes[parent] = os.path.realpath(parent)
        path = os.path.join(homes[parent], last)
        paths.append(os.path.realpath(path) if os.path.islink(path) else path)
    return paths


def identity(path: str) -> object:
    """Return what two names of one file share, hard links too, given where it really lies."""
    try:
        stat = os.stat(path)
    except OSError:
        return path
    return (stat.st_dev, stat.st_ino) if stat.st_nlink > 1 else path


def count_links(root: Path, folder: Path, names: Iterable[str]) -> int:
    """Return how many files of ``folder`` are reached through a link below ``root``.

    Links on the way to the root are not counted, nor, where the folder lies elsewhere, those to it.
    """
    names, home, base = list(names), os.path.abspath(folder), os.path.abspath(root)
    if not Path(home).is_relative_to(base):
        base = home
    direct = os.path.join(os.path.realpath(base), os.path.relpath(home, base))
    plain = (os.path.normpath(os.path.join(direct, name)) for name in names)
    return sum(map(str.__ne__, plain, real_paths(folder, names)))


def trusted_home(spec: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the folder that no link may leave, or None where links are followed.

    It is the data set's root; the image folder itself where the user named one outside of it.
    """
    if (spec.get("links") or "follow") == "follow":
        return None
    root = Path(os.path.abspath(spec["root"]))
    inside = Path(os.path.abspath(folder)).is_relative_to(root)
    return (root if inside else folder).resolve()


def check_inside(path: Path, name: str, home: Path | None) -> None:
    """Refuse a file that a link leads out of ``home``; None lets all pass.

    Raises:
        InputError: if it leaves.
    """
    if home is not None and not Path(os.path.realpath(path)).is_relative_to(home):
        expected = f"a file inside {home} (or data.links: follow)"
        raise InputError(f"link {name!r} that leaves the data set's folder", path, expected)


def broken_link(path: Path) -> str | None:
    """Say which link on the way to ``path`` leads to nothing, or None."""
    for part in reversed((path, *path.parents)):
        if not os.path.islink(part):
            continue
        try:
            part.stat()
        except OSError as error:
            where = "in a circle" if error.errno == errno.ELOOP else "nowhere"
            return f"link {part.name!r} that leads {where}"
    return None
