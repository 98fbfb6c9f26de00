"""``clclip list`` and ``clclip describe --yaml``: which names there are, and what one means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from clclip.config.load import find_experiment, read_experiment, resolved
from clclip.config.names import (
    PATTERN,
    fitting,
    is_name,
    read_name,
    shadowed,
    shipped_names,
    variants_of,
)
from clclip.config.resolve import check_own_options, idle_key, resolve_options
from clclip.config.streams import Stream, stream_file, stream_files, streams_of
from clclip.config.variants import Variant
from clclip.core.errors import InputError, nearest
from clclip.core.files import expanded
from clclip.model.kinds import KINDS

Row = tuple[str, str]


def listing(word: str = "") -> str:
    """Return the streams, methods and variants whose names hold ``word``, for a terminal.

    A whole stream is followed by the methods and variants that can stand behind it, a whole
    experiment by the variants that fit.

    Raises:
        InputError: if nothing is called so.
    """
    streams = [row for row in stream_rows() if word in row[0]]
    methods = [row for row in method_rows() if word in row[0]]
    variants = [row for row in variant_rows() if word in row[0]]
    if stems := [stem for stem in stream_files() if word in streams_of(stem)]:
        methods, variants = _behind_stream(stems)
    elif is_name(word):
        name = read_name(word)
        right = fitting(name.file, name.method)
        streams = [row for row in stream_rows() if row[0] == name.stream.name]
        methods = [row for row in method_rows() if row[0] == name.method]
        variants = [row for row in variant_rows() if row[0] in right]
    if not (streams or methods or variants):
        names = [row[0] for row in [*stream_rows(), *method_rows(), *variant_rows()]]
        what = f"no stream, method or variant {word!r}{nearest(word, [*names, *shipped_names()])}"
        raise InputError(what, "clclip list", "a part of a name, or nothing")
    sections = (("streams", streams), ("methods", methods), ("variants", variants))
    lines = [f"experiments are called {PATTERN}, e.g. voc_10_10_clclip_no_text"]
    for title, rows in sections:
        wide = max((len(name) for name, _ in rows), default=0)
        lines += [f"{title}:"] * bool(rows) + [f"  {name:<{wide}}  {text}" for name, text in rows]
    return "\n".join(lines)


RULES = {  # of which images a task sees, where it is not the usual one
    "disjoint": "; no image in two tasks",
    "non_cooccurrence": "; no old object in new images",
    "place": "; a place per task",
}


def stream_rows() -> list[Row]:
    """Return every stream with its kind, task sizes and data."""
    return [
        (name, stream_text(name, stream, stem))
        for stem in stream_files()
        for name, stream in streams_of(stem).items()
    ]


def stream_text(name: str, stream: Stream, stem: str) -> str:
    """Return a stream in words: kind, task sizes and data."""
    if name != stream.name:
        return f"{stream_file(stem).kind}, the same as {stream.name}"
    file = stream_file(stem)
    data = file.data.get("world") or file.data.get("root")
    rule = RULES.get(str(file.data.get("image_rule")), "")
    return f"{file.kind}, {sizes_text(stream.sizes)} classes of {data}{rule}"


def sizes_text(sizes: Iterable[int]) -> str:
    """Return the sizes of tasks: ``10+5+5``, or for many ``10 + 10 x 1``."""
    sizes = list(sizes)
    if len(sizes) <= 6:
        return "+".join(map(str, sizes))
    runs: list[list[int]] = []
    for size in sizes:
        if runs and runs[-1][0] == size:
            runs[-1][1] += 1
        else:
            runs.append([size, 1])
    return " + ".join(f"{count} x {size}" if count > 1 else str(size) for size, count in runs)


def method_rows() -> list[Row]:
    """Return every method with its name in tables and the kinds that have it."""
    rows: dict[str, str] = {}
    for kind in KINDS.values():
        for name, method in kind.methods.items():
            alias = f": {method.alias} with {flow(method.defining)}" if method.alias else ""
            text = f"{method.label} ({kind.name}){alias}"
            rows[name] = f"{rows[name]}; {text}" if name in rows else text
    return list(rows.items())


def variant_rows() -> list[Row]:
    """Return every variant with the keys that it sets and what it fits."""
    variants: dict[str, Variant] = {}
    for stem in stream_files():
        variants |= variants_of(stream_file(stem))
    return [(name, variant_text(variant)) for name, variant in variants.items()]


def variant_text(variant: Variant) -> str:
    """Return a variant in words."""
    keys = ("clip", "training", "switches", "per_kind", "per_method")
    values = {k: v for k in keys if (v := getattr(variant, k))}
    return f"{flow(values)} ({variant.for_whom()})"


def _behind_stream(stems: Iterable[str]) -> tuple[list[Row], list[Row]]:
    """Return the methods and variants that can follow a stream, which two files may have."""
    methods: set[str] = set()
    variants: dict[str, Variant] = {}
    for file in map(stream_file, stems):
        methods |= KINDS[file.kind].methods.keys()
        right = {name for method in KINDS[file.kind].methods for name in fitting(file, method)}
        variants |= {name: v for name, v in variants_of(file).items() if name in right}
    return (
        [row for row in method_rows() if row[0] in methods],
        [(name, variant_text(variant)) for name, variant in variants.items()],
    )


def flow(values: Mapping[str, Any]) -> str:
    """Return a mapping in one line of YAML, without its outer braces."""
    text = yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip().removeprefix("{").removesuffix("}")


def resolved_yaml(entry: str, data_root: str | None = None) -> str:
    """Return the one file that says all that an experiment's name, or its file and bases, say.

    Saved under another name, it makes the same tasks.

    Args:
        entry: name (STREAM_METHOD[_VARIANT...]) or experiment file.
        data_root: folder that relative data roots start from.

    Raises:
        InputError: if the experiment is wrong.
    """
    source = find_experiment(entry)
    experiment, folder = read_experiment(source)
    check_own_options(experiment, str(source))
    values, _ = resolved(source)
    start = expanded(data_root).absolute() if data_root else folder
    order = "kind method stream protocol tasks text data clip training switches per_task".split()
    keys = [*order, "evaluation", "seeds"]
    shown = {key: values[key] for key in keys if key in values}
    read = resolve_options(experiment.kind, experiment.method, experiment.switches, source.label)
    shown["switches"] = {k: v for k, v in values.get("switches", {}).items() if k in read}
    for section in ("training", "evaluation", "data"):
        own = shown.get(section, {})
        shown[section] = {k: v for k, v in own.items() if idle_key(experiment, section, k) is None}
    data = shown.get("data", {})
    if isinstance(data.get("root"), str) and start != Path.cwd():
        shown["data"] = {**data, "root": os.path.abspath(start / expanded(data["root"]))}
    shown = {key: value for key, value in shown.items() if value not in ({}, None)}
    lines = [f"# {experiment.name}{_parts(entry) if source.shipped else f' ({source.file})'}"]
    method = KINDS[experiment.kind].methods[experiment.method]
    if method.alias:
        lines.append(f"# {experiment.method} is {method.alias} with {flow(method.defining)}")
    for key, value in shown.items():
        text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
        lines.append(f"{key}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"


def _parts(entry: str) -> str:
    """Return the parts of a name in words."""
    name = read_name(entry)
    variants = f", variants {', '.join(name.variants)}" if name.variants else ""
    others = "".join(f"; that of {kind} is {other}" for kind, other in shadowed(entry).items())
    return f": stream {name.stream.name}, method {name.method}{variants}{others}"
