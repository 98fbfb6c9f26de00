"""Options of a method (``switches:`` in an experiment file) that know when they mean something.

An option that others make meaningless is left out of task.json, and refused where a file sets it
itself. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from clclip.core.models import Strict


class Positive:
    """All numbers above 0: the values of a weight that 0 turns off."""

    def __contains__(self, value: Any) -> bool:
        return value > 0

    def __iter__(self) -> Iterator[str]:
        yield "above 0"  # as a message writes them


Needs = Mapping[str, "tuple[Any, ...] | Positive"]
"""Other options -> their values with one of which an option means something; one of them is enough.
"""


class Options(Strict):
    """What a method can be set to, with its defaults.

    Attributes:
        only_with: option -> what it needs beside it; an option that is not listed always counts.
        later: options that decide nothing of a first task.
        across_tasks: options that relate a task to earlier ones; left empty, those of ``later``.
        optional: options younger than others -> the value of a task.json that does not name them,
            which stays when the default of new experiments becomes another.
        modules: module -> options with one value of which a task may run it. A fingerprint leaves
            it out for all other tasks, so what else imports it must do nothing with it there.
    """

    only_with: ClassVar[Mapping[str, Needs]] = {}
    later: ClassVar[frozenset[str]] = frozenset()
    across_tasks: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[Mapping[str, Any]] = {}
    modules: ClassVar[Mapping[str, Needs]] = {}

    @property
    def reads_text(self) -> bool:
        """Whether a task reads the texts of its classes."""
        return True

    def counts(self, key: str) -> bool:
        """Tell whether an option means something beside the values of the others."""
        needs = self.only_with.get(key)
        return needs is None or any(
            getattr(self, other) in values and self.counts(other) for other, values in needs.items()
        )

    def unset(self, key: str) -> bool:
        """Tell whether an option of ``optional`` has the value that task.json need not name."""
        return key in self.optional and getattr(self, key) == self.optional[key]

    def lacking(self, key: str) -> Needs:
        """Return what would give a meaningless option its meaning, the first thing to change."""
        needs = self.only_with[key]
        wrong = {k: values for k, values in needs.items() if getattr(self, k) not in values}
        # where all are right, the first of them means nothing itself
        return wrong or self.lacking(next(iter(needs)))


def in_words(needs: Needs, join: str = " or ") -> str:
    """Return options with their values as YAML writes them: ``gate: sigmoid or minmax``."""
    return join.join(f"{key}: {' or '.join(map(_yaml, values))}" for key, values in needs.items())


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
