"""Facts about a method and about a kind of experiment, no code; torch-free.

The tables of methods are ``detection/registry.py`` and ``classification/registry.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clclip.core.errors import InputError, nearest
from clclip.core.options import Needs, Options


@dataclass(frozen=True)
class Method:
    """Facts about a method.

    Attributes:
        code: what is trained, as ``path.to.file.Class`` below the package.
        options: the class of its options (``switches:`` in YAML).
        label: its name in tables and figures.
        role: in comparisons; others are compared with the first baseline of a table.
        defining: the options that define it, beneath those of the experiment file.
        alias: the method that task.json and summaries name; this one is a variant of it.
        first_task: method whose first task is the same one, so that it is trained once.
        trains: the classes of the last task, or of all tasks at once.
        colour: its place in the report's palette wherever it takes part.
        stages: the module with ``train`` and ``predict``, where it is not that of the kind.
        closed_form: it reads stored features alone, by sums or a small matrix: one process.
        reads_training: its training reads training images, or their store.
        numbers: of what its training may read the numbers in the data, beyond their order: images,
            boxes (and their categories).
        inference: options that its training does not read: another value trains nothing again. Only
            those that were looked for in its code, all that it inherits included.
        detects: options with one value of which its training detects with an earlier model, or may:
            then it reads all options.
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
    stages: str | None = None
    closed_form: bool = False
    reads_training: bool = True
    numbers: frozenset[str] = frozenset({"images", "boxes"})
    inference: frozenset[str] = frozenset()
    detects: Needs = field(default_factory=dict)

    def unread_in_training(self, switches: Mapping[str, Any]) -> frozenset[str]:
        """Return the options that the training of a task with such switches does not read."""
        fields = self.options.model_fields
        asked = any(
            switches.get(key, self.defining.get(key, fields[key].default)) in values
            for key, values in self.detects.items()
            if key in switches or key in fields
        )
        return frozenset() if asked else self.inference

    @property
    def module(self) -> str:
        """The dotted name of the file that holds the code."""
        return f"clclip.{self.code.rpartition('.')[0]}"

    def load(self) -> Any:
        """Import and return the class."""
        return getattr(importlib.import_module(self.module), self.code.rpartition(".")[2])

    def given(self, values: Mapping[str, Any]) -> Options:
        """Return the options of a task.json: the method's own, and ``values`` above them.

        Raises:
            pydantic.ValidationError: if a value is wrong, or the method has no such option.
        """
        return self.options(**{**self.defining, **self.options.optional, **values})

    def idle(self, switches: Mapping[str, Any]) -> frozenset[str]:
        """Return the modules of ``Options.modules`` that a task with such switches never runs."""
        defaults = {name: field.default for name, field in self.options.model_fields.items()}
        values = {**defaults, **self.defining, **self.options.optional, **switches}
        return frozenset(
            module
            for module, needs in self.options.modules.items()
            if all(values[key] not in of for key, of in needs.items())
        )

    def counts(self, options: Options, key: str) -> bool:
        """Tell whether an option means something for the method, beside the values of the others.

        What relates a task to earlier ones does not where all classes are trained at once.
        """
        alone = self.trains == "all" and key in (options.across_tasks or options.later)
        return not alone and options.counts(key)


def method_of(methods: Mapping[str, Method], name: str, where: object = "method") -> Method:
    """Return the facts of a method.

    Args:
        methods: by name.
        name: the method's.
        where: what names it, for the message.

    Raises:
        InputError: if there is no method of that name.
    """
    if name not in methods:
        expected = f"one of {', '.join(methods)}"
        raise InputError(f"unknown method {name!r}{nearest(name, methods)}", where, expected)
    return methods[name]


@dataclass(frozen=True)
class Kind:
    """What a kind of experiment is: its methods, its data, the modules and files of its stages.

    Attributes:
        name: as ``kind:`` in an experiment file.
        methods: its methods by name.
        formats: values of ``data.format`` that it can be trained on.
        world: the generated world of an experiment that names none.
        score: name of the scores, with a place for the letter P, C or A.
        tool: the command that uses a trained run on one's own images, and an ``--out`` for it.
        boxes: labels and predictions are boxes, so that image rules and AP apply.
        dense: tasks read dense features and the texts of their classes.
        side: the side of images in px where an experiment gives none, by its CLIP; None: unknown.
        stages: stage -> module that does the work.
        memory: prefix of tensors that only later tasks read: rehearsal data, or its statistics.
        verb: what a trained model does with its classes.
        hub: what the Hugging Face hub calls the task, and the metric of its scores.
        predictions: files that ``predict`` writes, the predictions first.
        predicts_with_training: whether ``train`` predicts at once: starting torch a second time
            would cost more than the training.
        training: defaults of ``training:`` that differ from those of ``TrainingConfig``.
    """

    name: str
    methods: Mapping[str, Method]
    formats: tuple[str, ...]
    world: str
    score: str
    tool: tuple[str, str]
    boxes: bool
    dense: bool
    side: Callable[[Mapping[str, Any]], int | None]
    stages: Mapping[str, str]
    memory: str
    verb: str
    hub: tuple[str, str]
    predictions: tuple[str, ...] = ("predictions.json",)
    predicts_with_training: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)

    def module(self, stage: str, method: str) -> str:
        """Return the module that does the work of a stage for a method."""
        own = self.methods.get(method)
        if stage in ("train", "predict") and own is not None and own.stages:
            return own.stages
        return self.stages[stage]
