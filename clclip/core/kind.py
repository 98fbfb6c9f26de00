"""What a method and a kind of experiment are told as: facts, no code; torch-free.

The tables of methods are ``detection/registry.py`` and ``classification/registry.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clclip.core.options import Options


@dataclass(frozen=True)
class Method:
    """What the name of a method stands for.

    Attributes:
        code: what is trained, as ``path.to.file.Class`` below the package.
        options: what it can be told (``switches:``).
        label: its name in tables and figures.
        role: what it is compared as; the first baseline of a table is what others are measured by.
        defining: the options that define it, beneath those of the experiment file.
        alias: the method that task.json and summaries name instead: this one is a setting of it.
        first_task: method whose first task is the same one, so that it is trained once.
        trains: the classes of the last task, or of all tasks at once.
        colour: its place in the report's palette wherever it takes part.
    """

    code: str
    options: type[Options]
    label: str
    role: Literal["method", "baseline", "upper bound"] = "method"
    defining: Mapping[str, Any] = field(default_factory=dict)
    alias: str | None = None
    first_task: str | None = None
    trains: Literal["last", "all"] = "last"
    colour: int | None = None

    @property
    def module(self) -> str:
        """The dotted name of the file that holds the code."""
        return f"clclip.{self.code.rpartition('.')[0]}"

    def load(self) -> Any:
        """Import and return the class."""
        return getattr(importlib.import_module(self.module), self.code.rpartition(".")[2])

    def given(self, values: Mapping[str, Any]) -> Options:
        """Return the options: the method's own, and ``values`` above them.

        Raises:
            pydantic.ValidationError: if a value is wrong, or an option no one of the method's.
        """
        return self.options(**{**self.defining, **values})

    def without_meaning(self, options: Options) -> set[str]:
        """Return the options that mean nothing beside the others, or for this method at all."""
        idle = {key for key in type(options).model_fields if not options.counts(key)}
        return idle | (options.later if self.trains == "all" else set())


STAGES = {
    ("split", "detection"): "clclip.data.split",
    ("split", "classification"): "clclip.data.split",
    ("train", "detection"): "clclip.detection.stages.train",
    ("train", "classification"): "clclip.classification.stages",
    ("predict", "detection"): "clclip.detection.stages.train",
    ("predict", "classification"): "clclip.classification.stages",
    ("score", "detection"): "clclip.evaluation.score",
    ("score", "classification"): "clclip.evaluation.score",
}
"""(stage, kind) -> the module that does the work."""
