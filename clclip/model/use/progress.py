"""How far a command over many images has come, and the images that it had to leave out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from clclip.core.errors import InputError

logger = logging.getLogger(__name__)

T = TypeVar("T")


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items with a bar on a terminal's stderr; none elsewhere or for a single one."""
    hidden = True if total < 2 else None  # None: tqdm hides the bar unless stderr is a terminal
    yield from tqdm(items, desc=what, total=total, unit="image", disable=hidden)


class Skipped:
    """Images that could not be read.

    Args:
        files: all images.
        rule: "fail" ends at the first, "skip" leaves them out.
    """

    def __init__(self, files: Sequence[Path], rule: str) -> None:
        self.files, self.rule = files, rule
        self.reasons: dict[int, str] = {}

    def add(self, number: int, error: InputError) -> None:
        """Take note of an image, or raise its error."""
        if self.rule == "fail":
            raise error
        logger.warning("left out: %s", error)
        self.reasons[number] = error.what

    def check(self) -> None:
        """Raise InputError if no image is left."""
        if len(self.reasons) == len(self.files):
            what = f"none of {len(self.files)} images can be read"
            raise InputError(what, self.files[0], "at least one whole image")

    def as_info(self) -> dict[str, Any]:
        """Return what results say of them; nothing where there is none."""
        rows = [
            {"file_name": str(self.files[number]), "reason": reason}
            for number, reason in sorted(self.reasons.items())
        ]
        return {"skipped": rows} if rows else {}
