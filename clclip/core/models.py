"""Checks of configuration values, and pydantic's errors as one line."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from clclip.core.errors import InputError, WrongValue, nearest, wanted
from clclip.core.names import canonical_name, name_fault, spelt

Model = TypeVar("Model", bound=BaseModel)
MAX_SEED = 2**31 - 1
_QUOTED = 'a text, in quotes where YAML reads it as something else, e.g. "0", "yes", "null"'
_SHAPES = ("a mapping of keys to values", "a list")
_YAML_WORDS = {"True": "true (or yes, on)", "False": "false (or no, off)", "None": "null (or ~)"}


class Strict(BaseModel):
    """A section of the configuration: unknown keys are refused, values are immutable.

    ``true`` is no number: pydantic would take ``epochs: true`` for 1.

    Attributes:
        sample_values: key -> a right value as YAML writes it, of mappings and lists.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    sample_values: ClassVar[Mapping[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_number(cls, value: Any, info: ValidationInfo) -> Any:
        types = _types(cls.model_fields[str(info.field_name)].annotation)
        given = value if isinstance(value, list | tuple) else [value]
        if (
            types & {int, float}
            and bool not in types
            and any(v is True or v is False for v in given)
        ):
            raise PydanticCustomError("number", "a number, not true or false")
        return value


def _types(annotation: Any) -> set[Any]:
    """Return the types that an annotation is made of."""
    return {annotation}.union(*map(_types, get_args(annotation)))


def as_list(value: Any) -> Any:
    """Turn a number, a comma-separated text or a list into a list: Snakemake passes all three."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return [value]
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def check_seeds(seeds: list[int]) -> list[int]:
    """Return ``seeds`` if they are distinct and within 0..2**31-1; WrongValue otherwise."""
    if not seeds:
        raise WrongValue("no seed given", "at least one, e.g. [0]")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise WrongValue(f"seed {seed} is outside 0..{MAX_SEED}", "a number in that range")
        if seeds.count(seed) > 1:
            raise WrongValue(f"seed {seed} is given twice", "each seed once")
    return seeds


def check_groups(groups: list[list[str]]) -> None:
    """Raise WrongValue unless the groups are non-empty and no class occurs twice."""
    if not groups:
        raise WrongValue("no task given", "at least one list of classes")
    first: dict[str, int] = {}
    for number, group in enumerate(groups, start=1):
        if not group:
            raise WrongValue(f"task {number} has no classes", "at least one class a task")
        for name in group:
            check_text(name, f"class name {name!r} in task {number}")
            if name in first:
                what = f"class {name!r} is in task {first[name]} and in task {number}"
                raise WrongValue(what, "each class in one task, once")
            first[name] = number


def check_class(name: str) -> str:
    """Return the canonical spelling of a class name; WrongValue if it cannot be one."""
    problem = name_fault(name)
    if problem == "blank":
        raise WrongValue(f"class name {spelt(name)} is blank", "1 to 200 characters")
    if problem:
        raise WrongValue(f"class name {name!r} {problem}", "printable text in one line")
    return canonical_name(name)


def check_text(words: str, what: str) -> None:
    """Raise WrongValue unless ``words`` is 1 to 200 printable characters without outer spaces."""
    if not words.strip() or words != words.strip() or len(words) > 200:
        expected = "1 to 200 characters, no space before or after"
        raise WrongValue(f"{what} is blank, padded or too long", expected)
    fault = "with control characters" if "\t" in words else name_fault(words)
    if fault:
        raise WrongValue(
            f"{what} {fault.replace('with', 'holds', 1)}", "printable text in one line"
        )


@cache
def open_clip_models() -> frozenset[str]:
    """Return open_clip's architecture names without importing it (importing takes seconds)."""
    return frozenset(p.stem for f in open_clip_folders() for p in f.glob("*.json"))


def open_clip_config(model: str) -> Path | None:
    """Return open_clip's file on an architecture, or None if it has none."""
    paths = (folder / f"{model}.json" for folder in open_clip_folders())
    return next((path for path in paths if path.is_file()), None)


def open_clip_folders() -> list[Path]:
    """Return the folders of open_clip's architecture files."""
    spec = importlib.util.find_spec("open_clip")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return [Path(folder) / "model_configs" for folder in folders]


def parse(model: type[Model], values: Any, where: str) -> Model:
    """Validate ``values``; the first thing wrong becomes one InputError naming its key."""
    if not isinstance(values, dict):
        raise InputError(f"got {type(values).__name__}", where, "a mapping of keys to values")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise input_error(model, error, where) from None


def input_error(model: type[BaseModel], error: ValidationError, where: str) -> InputError:
    """Describe the first problem of ``error``: unknown keys first, since they explain others."""
    problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    problem = problems[0]
    path = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    place = f"{where}: {path}" if path else where
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        key = str(problem["loc"][-1])
        what = f"unknown key {key!r}{nearest(key, known)}"
        return InputError(what, place, f"one of {', '.join(known)}")
    if problem["type"] == "missing":
        return InputError(f"missing key {problem['loc'][-1]!r}", where, f"the key {path}")
    if problem["type"] == "value_error":
        wrong = problem["ctx"]["error"]
        what = getattr(wrong, "what", str(wrong))
        expected = getattr(wrong, "expected", "a value as `clclip schema` tells it")
        return InputError(what, place, expected)
    got = repr(problem["input"])
    if problem["type"] == "string_type":  # YAML's 0, yes, null and 2024-01-01 are no text
        return InputError(f"got {_YAML_WORDS.get(got, got)[:80]}", place, _QUOTED)
    words = wanted(problem["type"], problem["msg"])
    example = _example(model, problem["loc"], problem["input"]) if words in _SHAPES else None
    return InputError(f"got {got[:80]}", place, f"{words}, e.g. {example}" if example else words)


def _example(model: type[BaseModel], loc: tuple[Any, ...], given: Any) -> str | None:
    """Return what would be right where a mapping or a list is asked for; None: nobody knows.

    That is the list of the one thing that was given, else the example of the innermost named key.

    Args:
        model: of the whole.
        loc: where in it.
        given: what is there.
    """
    owner, key = model, ""
    type_: Any = model
    for part in loc:
        inner = [type_, *get_args(type_)]
        section = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), None)
        if section is not None and str(part) in section.model_fields:
            owner, key = section, str(part)
            type_ = section.model_fields[key].annotation
        else:  # a place in a list, or a key of a mapping
            type_ = next(iter(get_args(type_)[-1:]), None)
    if loc and loc[-1] == key and (own := _as_list(type_, given)):
        return f"{key}: {own}"
    known = getattr(owner, "sample_values", {}).get(key)
    return known and f"{key}: {known}"


def _as_list(type_: Any, given: Any) -> str | None:
    """Return a text or a number as the list, or list of lists, that a field takes."""
    depth = 0
    while lists := [t for t in (type_, *get_args(type_)) if get_origin(t) in (list, tuple)]:
        depth, type_ = depth + 1, get_args(lists[0])[0]
    parts = [part.strip() for part in str(given).split(",")]
    numbers = _types(type_) & {int, float} and not _types(type_) & {str}
    right = r"-?[0-9.]+(e-?[0-9]+)?" if numbers else r"[^\W\d][\w -]*"
    if not depth or isinstance(given, bool) or not all(re.fullmatch(right, p) for p in parts):
        return None
    return "[" * depth + ", ".join(parts) + "]" * depth


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Return the keys that the section at ``loc`` knows."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        for type_ in (field.annotation, *get_args(field.annotation)):
            if isinstance(type_, type) and issubclass(type_, BaseModel):
                model = type_
    return list(model.model_fields)
