"""Options of a method (``switches:`` in an experiment file) that know when they mean something.

An option that others make meaningless is left out of task.json, and refused where a file sets it
itself. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from clclip.core.models import Strict

Needs = Mapping[str, tuple[Any, ...]]
"""Other options -> their values with one of which an option means something; one of them is enough.
"""


class Options(Strict):
    """What a method can be told, with its defaults.

    Attributes:
        only_with: option -> what it needs beside it; an option that is not listed always counts.
        later: options that say nothing before there is an earlier task.
    """

    only_with: ClassVar[Mapping[str, Needs]] = {}
    later: ClassVar[frozenset[str]] = frozenset()

    def counts(self, key: str) -> bool:
        """Tell whether an option means something beside the values of the others."""
        needs = self.only_with.get(key)
        return needs is None or any(
            getattr(self, other) in values and self.counts(other)
            for other, values in needs.items()
        )

    def lacking(self, key: str) -> Needs:
        """Return what would give a meaningless option its meaning, the first thing to change."""
        needs = self.only_with[key]
        for other, values in needs.items():
            if getattr(self, other) in values:  # right, but means nothing itself
                return self.lacking(other)
        return needs

    def meaningful(self) -> dict[str, Any]:
        """Return the options that count, as plain JSON values."""
        values = self.model_dump(mode="json")
        return {key: value for key, value in values.items() if self.counts(key)}


def in_words(needs: Needs, join: str = " or ") -> str:
    """Return options with their values as YAML writes them: ``gate: sigmoid or minmax``."""
    return join.join(f"{key}: {' or '.join(map(_yaml, values))}" for key, values in needs.items())


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
