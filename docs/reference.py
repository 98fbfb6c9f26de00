"""The reference pages of the documentation, generated from what the program itself goes by.

The keys of the config come from the pydantic models, the commands from the parser of the command
line; nothing is written twice. Torch-free; ``docs/hooks.py`` calls it when the site is built.
"""

from __future__ import annotations

import argparse
import functools
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clclip.cli.command import GROUPS, commands, of_group
from clclip.cli.parser import build_parser
from clclip.config.data import DataConfig
from clclip.config.experiment import (
    ClipConfig,
    EvaluationConfig,
    Experiment,
    TaskOverride,
    TrainingConfig,
)
from clclip.config.listing import stream_rows, variant_rows
from clclip.config.names import PATTERN
from clclip.config.run import ReportStyle, RunConfig
from clclip.config.streams import StreamFile
from clclip.config.variants import Variant
from clclip.core.kind import Kind
from clclip.core.machine import Speed
from clclip.core.options import Options, in_words
from clclip.data.shapes.difficulty import Difficulty
from clclip.model.kinds import KINDS

PAGES = {
    "detection": "[CL-CLIP](cl-clip.md) and [the other methods](methods.md)",
    "classification": "[SECA](seca.md) and [closed-form classifiers](closed-form.md)",
}
SECTIONS: tuple[tuple[str, str, type[BaseModel], str], ...] = (
    (
        "run",
        "What to run",
        RunConfig,
        "The keys of `config/config.yaml`, of a file given by `--configfile`, and of `--config`.",
    ),
    ("report", "`report:`", ReportStyle, "In the file above. A change reruns the report only."),
    ("speed", "`speed:`", Speed, "In the file above. A change reruns nothing."),
    (
        "experiment",
        "An experiment file",
        Experiment,
        "The keys of your own files, and of an entry of `experiments:` that is more than a name. "
        "One of `tasks` and `stream` is needed.",
    ),
    ("data", "`data:`", DataConfig, "In an experiment file."),
    (
        "difficulty",
        "`data.difficulty:`",
        Difficulty,
        "Knobs of a cluttered world; one that is left out is that of the world. The defaults are "
        "those of `clutter20`.",
    ),
    ("clip", "`clip:`", ClipConfig, "In an experiment file; left out, the embedded CLIP."),
    (
        "training",
        "`training:`",
        TrainingConfig,
        "In an experiment file, and under `per_task` for one task.",
    ),
    ("per_task", "`per_task:`", TaskOverride, "By task number, e.g. `per_task: {2: {...}}`."),
    ("evaluation", "`evaluation:`", EvaluationConfig, "In an experiment file."),
    (
        "stream",
        "A file of streams",
        StreamFile,
        "The keys of `config/streams/*.yaml`. A new file gives a data set all methods of its kind.",
    ),
    ("variant", "A variant", Variant, "By name, in `config/variants.yaml` or a file of streams."),
)


def config_page() -> str:
    """Return the config reference as Markdown."""
    lines = [
        "# Config reference",
        "",
        "Generated from the models that read your files (`clclip/config/experiment.py`, "
        "`clclip/detection/options/*.py`, `clclip/classification/options.py`), so it is "
        "what the program accepts. An unknown key, a value out of range or a wrong type ends the "
        "command with one line. "
        "`config/schema.json` says the same to editors: start a file with "
        "`# yaml-language-server: $schema=PATH/config/schema.json` and keys complete themselves.",
    ]
    for anchor, title, model, text in SECTIONS:
        lines += ["", f"## {title} {{ #{anchor} }}", "", text, "", *_table(anchor, model)]
        if anchor == "training":
            lines += [
                f"\n{kind.name.capitalize()} starts from other defaults: {_pairs(kind.training)}"
                for kind in KINDS.values()
                if kind.training
            ]
    for kind in KINDS.values():
        lines += ["", *_switches(kind)]
    lines += ["", "## Methods { #methods }", "", *_methods()]
    lines += ["", "## Names of experiments { #experiments }", "", *_names()]
    return "\n".join(lines) + "\n"


def option_classes(kind: Kind) -> dict[type[Options], list[str]]:
    """Return the classes of a kind's options, those that others build on first -> their methods."""
    result: dict[type[Options], list[str]] = {}
    for name, method in kind.methods.items():
        for cls in reversed(method.options.__mro__):
            if issubclass(cls, Options) and cls is not Options:
                result.setdefault(cls, []).append(name)
    return result


def switch_keys(kind: Kind) -> dict[str, type[Options]]:
    """Return all switches of a kind, each with the class that adds it."""
    result: dict[str, type[Options]] = {}
    for cls in option_classes(kind):
        for key in cls.model_fields:
            result.setdefault(key, cls)
    return result


def _switches(kind: Kind) -> Iterator[str]:
    """Yield the tables of a kind's switches, one for each class of options."""
    yield f"## `switches:` of {kind.name} {{ #{kind.name} }}"
    yield ""
    yield (
        f"In an experiment file with `kind: {kind.name}`. A switch of another method, or one that "
        "means nothing beside the others, is refused where a file sets it itself, and left out "
        f"where it comes from a base. What each does: {PAGES[kind.name]}."
    )
    added = switch_keys(kind)
    for cls, methods in option_classes(kind).items():
        whom = "All methods" if len(methods) == len(kind.methods) else ", ".join(methods)
        yield from ("", f"### {whom} {{ #{kind.name}-{cls.__name__} }}", "")
        yield from _table(kind.name, cls, [key for key, first in added.items() if first is cls])


def _table(anchor: str, model: type[BaseModel], keys: Iterable[str] | None = None) -> list[str]:
    """Return the table of a model's keys."""
    head = "| key | type | default | meaning |"
    rows = [head, "| --- | --- | --- | --- |"]
    for key in model.model_fields if keys is None else keys:
        field = model.model_fields[key]
        text = (field.description or "").replace("|", "\\|")
        if issubclass(model, Options) and key in model.only_with:
            text = f"{text} Only with {in_words(model.only_with[key])}."
        name = f'<span id="{anchor}-{key}">`{key}`</span>'
        rows.append(f"| {name} | {_type(field)} | {_default(field)} | {text} |")
    return rows


def _type(field: FieldInfo) -> str:
    """Return what values a key takes."""
    return ", ".join([_words(field.annotation), *_limits(field)])


def _limits(field: FieldInfo) -> list[str]:
    """Return the bounds of a number in signs."""
    return [
        sign + f"\N{NO-BREAK SPACE}{getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(rule, name, None) is not None
    ]


def _words(annotation: Any) -> str:
    """Return a type in words."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [
            limit for part in args[1:] if isinstance(part, FieldInfo) for limit in _limits(part)
        ]
        return " ".join([_words(args[0]), *bounds])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else _words(arg) for arg in args)
    if origin in (list, tuple):
        return f"list of {_words(args[0])}"
    if origin is dict:
        return f"mapping of {_words(args[0])} to {_words(args[1])}"
    if annotation is Any:
        return "value"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        anchor = next(name for name, _, model, _ in SECTIONS if model is annotation)
        return f"[keys of its own](#{anchor})"
    plain = {str: "text", int: "integer", float: "number", bool: "true, false"}
    return plain.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    """Return a default as YAML would write it."""
    value = field.default
    if value is PydanticUndefined:
        return "(needed)"
    if isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _pairs(values: Mapping[str, Any]) -> str:
    """Return switches or settings in one line."""
    return ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in values.items()) or "none"


def _methods() -> Iterator[str]:
    """Yield the table of methods with the switches that define them."""
    yield "| kind | method | name | code | switches that define it |"
    yield "| --- | --- | --- | --- | --- |"
    for kind in KINDS.values():
        for name, method in kind.methods.items():
            path = method.module.replace(".", "/") + ".py"
            cells = f"| {kind.name} | `{name}` | {method.label} | `{path}` "
            yield f"{cells}| {_pairs(method.defining)} |"


def _names() -> Iterator[str]:
    """Yield the streams and the variants that names of experiments are made of."""
    yield (
        f"An experiment is called `{PATTERN}`: every method of a stream's kind, and every variant "
        "that fits, one behind the other. `clclip list` prints the same; `clclip describe NAME "
        "--yaml` prints the file that a name stands for. A name that no stream, method or variant "
        "explains is answered with the nearest that does."
    )
    for title, rows in (("stream", stream_rows()), ("variant", variant_rows())):
        yield from ("", f"| {title} | |", "| --- | --- |")
        yield from (f"| `{name}` | {text} |" for name, text in rows)


def commands_page() -> str:
    """Return the command reference as Markdown."""
    parser = build_parser()
    choices = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    lines = [
        "# Commands",
        "",
        "Generated from the commands themselves (`clclip/cli/command.py`). Every command "
        "exits with 0 on success, 2 with one line `error: ...` on bad input, 1 on a fault of the "
        "program. The workflow calls the same commands, one per stage.",
    ]
    for group, title in GROUPS.items():
        lines += ["", f"**{title[0].upper()}{title[1:]}**", "", "| command | what it does |"]
        lines += ["| --- | --- |"]
        lines += [
            f"| [`clclip {name}`](#{name}) | {command.help} |"
            for name, command in of_group(group).items()
        ]
    for name in commands():
        sub = choices[name]
        sub.formatter_class = functools.partial(argparse.HelpFormatter, width=88)
        help_text = sub.format_help().rstrip()
        lines += ["", f"## clclip {name} {{ #{name} }}", "", "```text", help_text, "```"]
    return "\n".join(lines) + "\n"
