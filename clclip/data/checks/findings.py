"""Findings of checking a data set: things to report, count and list, as opposed to errors."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)


@dataclass
class Findings:
    """Collected while a data set is indexed; it ends in ``index.json``.

    Attributes:
        skipped: {"kind": "image" | "box", "split", "file_name", "id", "reason"} of everything left
            out on request.
        clipped: number of boxes cut at the border of their image.
        links: number of images reached through symbolic links.
        contents: {split: {file name: digest of its bytes}} of the good images.
    """

    skipped: list[dict[str, Any]] = field(default_factory=list)
    clipped: int = 0
    links: int = 0
    contents: dict[str, dict[str, str]] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)
    _notes: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, str] = field(default_factory=dict)

    def note(self, warning: str, example: str) -> None:
        """Count one case of a warning; the first example is stored."""
        self._notes[warning] += 1
        self._examples.setdefault(warning, example)

    def tell(self, line: str) -> None:
        """Add a warning that is shown once, as it is worded."""
        if line not in self._lines:
            self._lines.append(line)

    def skip(self, kind: str, split: str, file_name: str, number: int, reason: str) -> None:
        """List something that was left out."""
        entry = {
            "kind": kind,
            "split": split,
            "file_name": file_name,
            "id": number,
            "reason": reason,
        }
        self.skipped.append(entry)

    def skipped_count(self, kind: str) -> int:
        """Return how many images or boxes were left out."""
        return sum(entry["kind"] == kind for entry in self.skipped)

    def warnings(self) -> list[str]:
        """Return one line per kind of warning, with its count and first example."""
        lines = [*self._lines]
        lines += [
            f"{kind}: {self._examples[kind]}"
            if count == 1
            else f"{kind} ({count} times, first: {self._examples[kind]})"
            for kind, count in self._notes.items()
        ]
        if self.links:
            lines.append(f"{self.links} images reached through symbolic links")
        if self.clipped:
            lines.append(f"{self.clipped} boxes clipped at the border of their image")
        for kind in ("image", "box"):
            if count := self.skipped_count(kind):
                plural = {"image": "images", "box": "boxes"}[kind]
                lines.append(f"{count} bad {plural} left out, first: {self._first(kind)}")
        return lines

    def _first(self, kind: str) -> str:
        """Return the first thing of a kind that was left out, with its reason."""
        entry = next(entry for entry in self.skipped if entry["kind"] == kind)
        return f"{entry['file_name']!r} ({entry['reason']})"

    def log(self) -> None:
        """Log every warning."""
        for line in self.warnings():
            logger.warning("%s", line)
