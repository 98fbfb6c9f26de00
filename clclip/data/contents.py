"""What the image files of an indexed data set held: a digest of each, beside its index.

A data set changes its id when anything in it does. By these digests the task store tells that the
images which a task was trained on are in the changed data set too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json

_NAME = "contents.json"

Contents = Mapping[str, Mapping[str, str]]
"""{split: {file name: digest of its bytes}}."""


def write_contents(
    folder: Path, version: str, images: Contents, prefixes: Mapping[str, str]
) -> None:
    """Write what the images of a data set held; nothing where none was read.

    Args:
        folder: of its index.
        version: of the data set.
        images: the digests by file names as they are in the annotations.
        prefixes: what the index puts before those of a split.
    """
    if not images:
        return
    named = {
        split: {prefixes.get(split, "") + name: content for name, content in own.items()}
        for split, own in images.items()
    }
    write_json(folder / _NAME, {"version": version, "images": named})


def read_contents(folder: Path) -> Contents | None:
    """Return the digests of a data set's images by file names as they are in its index.

    None where they are not known: an index of an earlier version, a data set whose images are made
    when it is indexed, or one that was changed after its id was made, before it was indexed.
    """
    try:
        written = read_json(folder / _NAME)
        named, images = folder.name.endswith(f"-{written['version']}"), written["images"]
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return None
    return images if named and isinstance(images, dict) else None
