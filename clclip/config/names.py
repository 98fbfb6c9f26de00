"""Experiments by name: ``STREAM_METHOD[_VARIANT...]``, e.g. ``voc_10_10_clclip_no_text``.

No file lists them: a name is taken apart into a stream of ``config/streams/``, a method of the
registry and variants of ``config/variants.yaml``, and stands for their keys laid over each other.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from clclip.config.resolve import resolve_options
from clclip.config.streams import (
    Stream,
    StreamFile,
    files_for,
    stream_file,
    stream_files,
    streams_of,
)
from clclip.config.variants import Variant, leaves, shared_variants
from clclip.config.yaml_files import merged
from clclip.core.errors import InputError, WrongValue
from clclip.model.kinds import KINDS

PATTERN = "STREAM_METHOD[_VARIANT...]"
MOST_WORDS = 12  # of a name whose parts are tried in another order


@dataclass(frozen=True)
class Name:
    """A name taken apart."""

    stream: Stream
    method: str
    variants: tuple[str, ...]

    @property
    def file(self) -> StreamFile:
        """The file of its stream."""
        return stream_file(self.stream.file)


@dataclass(frozen=True)
class Wrong:
    """A wrong part of a name: the message about it, and the nearest right part, if any is near."""

    what: str
    expected: str
    part: str = ""
    right: str = ""


def read_name(name: str, where: object = "experiments") -> Name:
    """Take a name apart: the longest stream, then the longest method, then variants that fit.

    Raises:
        InputError: if a part is wrong or does not fit; the message suggests the nearest.
    """
    read = _read(name)
    if isinstance(read, Name):
        return read
    if read is not None:
        raise InputError(f"unknown experiment {name!r}: {read.what}", where, read.expected)
    bare = name.rstrip("_")
    if meant := next(filter(is_name, (bare, bare.lower(), *_reordered(bare.lower()))), ""):
        why = "it ends in '_'" if meant == bare else "names are in lower case"
        why = why if meant == bare.lower() else "its parts are in another order"
        what = f"unknown experiment {name!r} (did you mean {meant!r}?): {why}"
        raise InputError(what, where, PATTERN)
    wrong, whole = _mended(bare)
    if not whole and bare != bare.lower():
        lower = _mended(bare.lower())
        wrong, whole = lower if lower[1] else (wrong, whole)
    hint = f" (did you mean {whole!r}?)" if whole else ""
    raise InputError(f"unknown experiment {name!r}{hint}: {wrong.what}", where, wrong.expected)


def is_name(name: str) -> bool:
    """Tell whether a name stands for an experiment."""
    try:
        return isinstance(_read(name), Name)
    except InputError:
        return False


def shadowed(name: str) -> dict[str, str]:
    """Return by kind what experiments are called that a name of another kind stands before."""
    readings = list(_readings(name))
    return {
        other.file.kind: whole
        for other in readings[1:]
        if other.file.kind != readings[0].file.kind
        if is_name(whole := "_".join((other.stream.name, other.method, *other.variants)))
    }


def values_of(name: Name) -> dict[str, Any]:
    """Return the keys of the experiment, as a file of its own would hold them."""
    file, method = name.file, name.method
    values = file.shared | {"method": method, "stream": name.stream.name}
    for own in _lineage(file.kind, method):
        values = merged(values, file.per_method.get(own, {}))
    for variant in name.variants:
        values = merged(values, variants_of(file)[variant].values(file.kind, method))
    return values


def variants_of(file: StreamFile) -> dict[str, Variant]:
    """Return the variants that may follow a method on the streams of a file."""
    return shared_variants() | file.variants


def fitting(file: StreamFile, method: str) -> list[str]:
    """Return the variants that fit a method on the streams of a file."""
    known, form = variants_of(file), str(file.data.get("format"))
    return [name for name, variant in known.items() if variant.fits(method, form)]


@cache
def shipped_names() -> tuple[str, ...]:
    """Return every STREAM_METHOD; variants may follow each."""
    return tuple(
        sorted(
            f"{stream}_{method}"
            for stem in stream_files()
            for stream in streams_of(stem)
            for method in KINDS[stream_file(stem).kind].methods
        )
    )


def known_names() -> Iterator[str]:
    """Yield every STREAM_METHOD, and each with every variant that fits it."""
    for stem in stream_files():
        file = stream_file(stem)
        for method in KINDS[file.kind].methods:
            variants = ["", *(f"_{variant}" for variant in fitting(file, method))]
            yield from (f"{s}_{method}{variant}" for s in streams_of(stem) for variant in variants)


def _lineage(kind: str, method: str) -> tuple[str, ...]:
    """Return the methods whose ``per_method`` keys a method takes over, itself last."""
    alias = KINDS[kind].methods[method].alias
    return (alias, method) if alias else (method,)


def _readings(name: str) -> Iterator[Name]:
    """Yield the ways in which a name can be read, the longest parts first."""
    for stream, rest in _heads(name, _matching_streams(name)):
        file = stream_file(stream.file)
        for method, left in _heads(rest, {method: method for method in KINDS[file.kind].methods}):
            for variants in _variant_lists(left, variants_of(file)):
                yield Name(stream, method, variants)


def _read(name: str) -> Name | WrongValue | None:
    """Return a name taken apart, else why its first reading does not fit, None if it has none."""
    misfit: WrongValue | None = None
    for parts in _readings(name):
        try:
            return _checked(parts)
        except WrongValue as error:
            misfit = misfit or error
    return misfit


def _matching_streams(name: str) -> list[tuple[str, Stream]]:
    """Return the streams that a name may begin with; two kinds may share one."""
    return [item for stem in files_for(name) for item in streams_of(stem).items()]


def _heads(text: str, known: Any) -> list[tuple[Any, str]]:
    """Return what ``text`` begins with, with the rest, the longest first."""
    items = known.items() if isinstance(known, dict) else known
    heads = [
        (value, text[len(key) + 1 :])
        for key, value in sorted(items, key=lambda item: -len(item[0]))
        if text == key or (text.startswith(f"{key}_") and text != f"{key}_")
    ]
    return heads


def _variant_lists(text: str, known: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yield the ways to read ``text`` as variants behind each other."""
    if not text:
        yield ()
    for variant, rest in _heads(text, {key: key for key in known}):
        for others in _variant_lists(rest, known):
            yield (variant, *others)


def _checked(name: Name) -> Name:
    """Return a name whose variants fit its method, its data and each other.

    Raises:
        WrongValue: if one does not.
    """
    file, known = name.file, variants_of(name.file)
    right = fitting(file, name.method)
    set_by: dict[str, str] = {}
    for variant in name.variants:
        if variant not in right:
            what = f"variant {variant!r} does not fit {name.stream.name}_{name.method}"
            fit = f"; that fits {known[variant].for_whom()}"
            raise WrongValue(what + fit, f"one of {', '.join(right)}" if right else "no variant")
        for key in sorted(leaves(known[variant].values(file.kind, name.method))):
            if key in set_by:
                what = f"variants {set_by[key]!r} and {variant!r} both set {key}"
                raise WrongValue(what, "one of the two")
            set_by[key] = variant
    if len(name.variants) > 1:
        _check_effects(name)
    return name


def _check_effects(name: Name) -> None:
    """Refuse a variant that the others leave without an effect: two names would be one run.

    One that says aloud what its stream has anyway (``voc_10_10_fvit_eva02``) passes.

    Raises:
        WrongValue: for the first such variant.
    """
    whole, bare = _settled(name), _settled(replace(name, variants=()))
    if whole is None:  # the plan says which value is wrong
        return
    for variant in name.variants:
        rest = replace(name, variants=tuple(v for v in name.variants if v != variant))
        if whole == _settled(rest) and bare != _settled(replace(name, variants=(variant,))):
            shorter = "_".join([rest.stream.name, rest.method, *rest.variants])
            raise WrongValue(f"variant {variant!r} adds nothing to {shorter}", shorter)


def _settled(name: Name) -> dict[str, Any] | None:
    """Return the keys of a name, of its switches those that count; None if a value is wrong."""
    values, file = values_of(name), name.file
    try:
        switches = resolve_options(file.kind, name.method, values.get("switches", {}), "switches")
    except InputError:
        return None
    return values | {"switches": switches}


def _reordered(name: str) -> Iterator[str]:
    """Yield a name with two neighbouring runs of its words swapped, in every way."""
    words = name.split("_")
    if len(words) <= MOST_WORDS:
        for a, b, c in itertools.combinations(range(len(words) + 1), 3):
            yield "_".join(words[:a] + words[b:c] + words[a:b] + words[c:])


def _mended(name: str) -> tuple[Wrong, str]:
    """Return which part of a name is wrong, and the name with it put right, "" if that is none."""
    wrong = _wrong_part(name)
    whole = name.replace(wrong.part, wrong.right, 1) if wrong.right else ""
    return wrong, whole if is_name(whole) else ""


def _wrong_part(name: str) -> Wrong:
    """Return which part of a name is wrong, with the nearest right one."""
    heads = _heads(name, _matching_streams(name))
    if not heads:
        return _wrong_stream(name)
    stream, rest = heads[0]
    file = stream_file(stream.file)
    methods = KINDS[file.kind].methods
    if not rest:
        return Wrong(f"{name!r} is a stream", f"{name}_METHOD, one of {', '.join(methods)}")
    if any(f"_{method}_" in f"{rest}_" for method in methods):
        return _wrong_stream(name)  # that begins as a right one does: shapes_cil_8x6_seca
    others = [m for kind in KINDS.values() for m in kind.methods if m not in methods]
    if other := _heads(rest, {method: method for method in others}):
        what = f"method {other[0][0]!r} is not for {file.kind}, as {stream.name} is"
        return Wrong(what, f"one of {', '.join(methods)}")
    similarity, wrong, likely = _closest(rest, methods)
    if started := _heads(rest, {method: method for method in methods}):
        method, left = started[0]
        right = fitting(file, method)
        left = _unread(left, right)
        every = [*right, *(name for name in variants_of(file) if name not in right)]
        near, part, _ = _closest(left, every)
        if similarity < 0.8 or near >= similarity or likely == method:  # clclip_no, of clclip
            unknown = _unknown("variant", part if near > 0.6 else left, every, right)
            if unknown.right and unknown.right not in right:
                unfit = f", which does not fit {stream.name}_{method}"
                unknown = replace(unknown, what=unknown.what + unfit)
            return unknown
    return _unknown("method", wrong or rest, methods, methods)


def _wrong_stream(name: str) -> Wrong:
    """Return that the stream of a name is unknown, with the nearest right one."""
    known = {stream: stem for stem in stream_files() for stream in streams_of(stem)}
    methods = dict.fromkeys(method for kind in KINDS.values() for method in kind.methods)
    cuts = [f"{name}_".partition(f"_{method}_") for method in methods]
    heads = [head for head, mark, _ in cuts if mark]
    wrong = min(heads, key=len) if heads else _closest(name, known)[1] or name
    unknown = _unknown("stream", wrong, known, ())
    return replace(unknown, expected=f"{PATTERN} of `clclip list`, or a path that ends in .yaml")


def _unknown(part_of_name: str, part: str, known: Collection[str], right: Collection[str]) -> Wrong:
    """Return that a part of a name is not known, with the nearest and all that would be right."""
    near = difflib.get_close_matches(part, list(known), n=1)
    what = f"no {part_of_name} {part!r}" + "".join(f", the nearest is {one!r}" for one in near)
    expected = f"one of {', '.join(right)}" if right else f"no {part_of_name}"
    return Wrong(what, expected, part, "".join(near))


def _unread(text: str, known: Collection[str]) -> str:
    """Return what is left of ``text`` when the variants that it begins with are taken off."""
    while heads := _heads(text, {key: key for key in known}):
        if not heads[0][1]:
            break
        text = heads[0][1]
    return text


def _closest(text: str, known: Iterable[str]) -> tuple[float, str, str]:
    """Return how near the nearest of ``known`` is to a wrong beginning of ``text``, and both."""
    words, known = text.split("_"), list(known)
    heads = ["_".join(words[:k]) for k in range(len(words), 0, -1)]
    rated = [
        (difflib.SequenceMatcher(None, head, right).ratio(), head, right)
        for head in heads
        for right in known
        if head not in known
    ]
    return max(rated, key=lambda item: item[0], default=(0.0, "", ""))
