"""A retry of a job ends at once where the last attempt met bad input: it would meet it again."""

from __future__ import annotations

from pathlib import Path

from clclip.core.errors import InputError

BAD_INPUT = "bad input: "  # marks the log line of an error that a retry would meet again


def refuse_known_bad_input(log: Path) -> None:
    """Raise the InputError that ended the last attempt, if one did: a retry would meet it again."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, mark, text = line.partition(BAD_INPUT)
        if mark:
            what, _, rest = text.partition(", in ")
            where, _, expected = rest.partition(", expected ")
            raise InputError(what, where, expected)
