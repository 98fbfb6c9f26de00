"""What ``detect`` and ``classify`` share: which images are meant, and where a run's CLIP lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clclip.core.errors import InputError
from clclip.data.images import IMAGE_SUFFIXES, inspect


def image_files(given: Sequence[Path]) -> list[Path]:
    """Return the files given and, of folders, the images inside, by name; each was decoded.

    Of a folder, hidden files (macOS lays a ``._photo.jpg`` beside a photo) and folders are no
    images, whatever their suffix.

    Raises:
        InputError: if there is none, or one is missing, broken or too large.
    """
    files: list[Path] = []
    for path in given:
        files += sorted(filter(_is_image, path.iterdir())) if path.is_dir() else [path]
    if not files:
        where = ", ".join(map(str, given)) or "the images"
        expected = f"image files, or folders of files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise InputError("no images", where, expected)
    for path in dict.fromkeys(files):
        inspect(path)
    return files


def resources_of(run: Path) -> Path:
    """Return the folder ``resources`` beside the ``results`` that a run lies in.

    Where there is none, because the run was copied elsewhere, that of the working directory.
    """
    for place in (Path(os.path.abspath(run)), run.resolve()):  # as it is named, then as linked
        beside = place.parent.parent.parent / "resources"  # results/EXPERIMENT/seedN
        if beside.is_dir():
            return beside
    return Path("resources")


def _is_image(path: Path) -> bool:
    """Tell whether a folder's entry counts as an image; a broken link does, and is told."""
    hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and not path.is_dir()
