"""Walking class folders: what is an image of a class, what a class, and what neither."""

from __future__ import annotations

import os
from pathlib import Path

from clclip.core.errors import InputError
from clclip.data.checks.findings import Findings
from clclip.data.images import IMAGE_SUFFIXES
from clclip.data.readers.annotated import check_file_name
from clclip.data.readers.links import broken_link

# Folders that systems and programs leave behind; hidden ones besides.
_JUNK = frozenset(
    ("__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
)

_DEEPEST = 50


def sub_folders(home: Path) -> list[str]:
    """Return the folders in ``home`` that are meant, sorted: links too, broken ones as well."""
    with os.scandir(home) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not _is_junk(entry.name)
            and (_is_folder(entry) or (broken_link(Path(entry.path)) and not _is_image(entry.name)))
        )


def images_below(
    folder: Path, findings: Findings, below: str = "", above: tuple[tuple[int, int], ...] = ()
) -> list[str]:
    """Return the images in a class folder and its sub-folders, as sorted relative paths.

    Files that are no images are noted, unless hidden.

    Args:
        folder: the class folder.
        findings: receives the notes.
        below: path of the sub-folder that is read ("" or "x/").
        above: identities of the folders on the way to it.

    Raises:
        InputError: if a link leads to nothing or in a circle, or a name is no UTF-8.
    """
    home = folder / below
    if len(above) > _DEEPEST:
        raise InputError("folders nested too deeply", home, f"at most {_DEEPEST} below a class")
    if broken := broken_link(home):
        raise InputError(broken, home, "a folder of images")
    stat = home.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        raise InputError(f"link {home.name!r} that leads in a circle", home, "a folder of images")
    names: list[str] = []
    with os.scandir(home) as entries:
        for entry in entries:
            if _is_junk(entry.name):
                continue
            name = below + check_file_name(entry.name, home)
            if _is_folder(entry):
                names += images_below(folder, findings, f"{name}/", (*above, here))
            elif _is_image(entry.name):
                names.append(name)
            elif broken := broken_link(Path(entry.path)):
                raise InputError(broken, entry.path, "a folder of images")
            else:
                warning = "not an image by its suffix, ignored"
                findings.note(warning, repr(f"{folder.name}/{name}"))
    return sorted(names) if not below else names


def _is_junk(name: str) -> bool:
    """Return whether an entry of a folder is nobody's data."""
    return name.startswith(".") or name in _JUNK


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(name: str) -> bool:
    """Return whether a file is an image by its suffix."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES
