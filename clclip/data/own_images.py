"""Images of one's own for ``detect`` and other commands: files, folders, patterns, lists of them.

Not in ``images.py``, which training reads: what is asked for here changes no training.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from clclip.core.errors import InputError
from clclip.data.images import IMAGE_SUFFIXES

LIST = ".txt"  # a file of image paths, one a line


def folder_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Return the images of a folder, by name; hidden files and folders are none.

    Args:
        folder: the folder.
        recursive: also those of the folders inside, after its own.
    """
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = [p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir()]
    if recursive:
        for path in entries:
            if path.is_dir() and not path.is_symlink():  # a link may lead back here
                images += folder_images(path, recursive)
    return images


def find_images(given: Iterable[Path], recursive: bool = False) -> list[Path]:
    """Return the image files that are meant by files, folders, patterns and lists.

    Args:
        given: image files, folders of them, patterns such as ``photos/**/*.jpg``, and text files
            (``.txt``) that name a file a line, relative to the text file.
        recursive: look into the folders of folders.

    Returns:
        the files in the order given; whether they are whole images is not checked.

    Raises:
        InputError: if there is none, or a file is missing.
    """
    given = list(given)
    images: list[Path] = []
    for path in given:
        images += _meant(path, recursive)
    if not images:
        where = ", ".join(map(str, given)) or "the images"
        expected = f"image files, or folders of files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise InputError("no images", where, expected)
    return images


def _meant(path: Path, recursive: bool) -> list[Path]:
    """Return what one word of the command line means."""
    if path.is_dir():
        return folder_images(path, recursive)
    if path.exists():
        return _of_list(path) if path.suffix.lower() == LIST else [path]
    if glob.has_magic(str(path)):
        places = map(Path, sorted(glob.glob(str(path), recursive=True)))
        return [p for p in places if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    expected = "an image file, a folder, a pattern in quotes, or a list of files (.txt)"
    raise InputError(f"no such image ({path.name!r})", path, expected)


def _of_list(path: Path) -> list[Path]:
    """Return the files that a text file names."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"not a list of files ({error})", path, "UTF-8, a path a line") from None
    images = [path.parent / line.strip() for line in lines if line.strip()]
    for number, image in enumerate(images, 1):
        if not image.is_file():
            where = f"{path}, line {number}"
            raise InputError(f"no such image ({image.name!r})", where, "an image file")
    return images
