"""Methods that are another one with switches of its own: task.json and summaries keep that one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Alias:
    """What a name stands for.

    Attributes:
        alias: the method.
        defining: its switches, beneath those of the experiment.
    """

    alias: str
    defining: Mapping[str, Any]


ALIASES: dict[str, Alias] = {
    "clclip_paper": Alias(
        "clclip",
        {"text_score": False, "shared": "drift", "drift": "feature", "orthogonality": "regions"},
    ),
}
