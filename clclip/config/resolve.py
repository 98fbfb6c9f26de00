"""A task's training section and switches, complete: defaults below what an experiment file says.

An option that means nothing for the method, or beside the others, is left out; where a file sets
one itself, it is refused in one line that names what would give it a meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from clclip.config.experiment import EvaluationConfig, Experiment, TrainingConfig
from clclip.config.yaml_files import merged
from clclip.core.digest import canonical
from clclip.core.errors import InputError
from clclip.core.kind import Method, method_of
from clclip.core.models import input_error, parse
from clclip.core.options import Options, in_words
from clclip.core.task import RUNTIME_KEYS
from clclip.model.kinds import KINDS
from clclip.model.switches import PartOptions, misfit

# 0 turns them off, and task.json then reads as one from before there were such keys
OPTIONAL = ("holdout", "repeat_threshold")
OF_DETECTORS = ("augment", "precision", "cache_features")
READ_UNTRAINED = ("image_size",)  # of training, where nothing is trained
OF_BOXES = {"evaluation": tuple(EvaluationConfig.model_fields), "data": ("on_bad_box",)}
DETECTION = "an experiment of detection"


def resolve_training(kind: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return all training settings: the kind's defaults, the file's above them, as plain values.

    Raises:
        InputError: if a key is unknown or a value is wrong.
    """
    training = _dump(TrainingConfig, {**KINDS[kind].training, **given}, f"{where}: training")
    for key in OPTIONAL:
        if not training[key]:
            del training[key]
        elif not KINDS[kind].boxes:
            what = f"{key} {training[key]:g} for {kind}"
            raise InputError(what, f"{where}: training.{key}", DETECTION)
    return training


def resolve_options(kind: str, method: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options that count: their defaults, the method's above them, then those given.

    Options of other methods, and those without meaning beside the others, are left out.

    Raises:
        InputError: if an option is one of no method, or a value is wrong.
    """
    facts = KINDS[kind].methods[method]
    options = _options(facts, given, where)
    values = _plain(options, f"{where}: switches")
    return {
        key: value
        for key, value in values.items()
        if facts.counts(options, key) and not options.unset(key)
    }


def idle_key(experiment: Experiment, section: str, key: str) -> tuple[str, str] | None:
    """Return why a key of training, evaluation or data means nothing, and what would be right.

    A method that trains no tower reads few keys of training, one of classification none of those
    of detectors and of boxes.

    Args:
        experiment: its file, bases merged in.
        section: ``training``, ``per_task.N.training``, ``evaluation`` or ``data``.
        key: of the section.

    Returns:
        None if it means something.
    """
    kind = KINDS[experiment.kind]
    if section in OF_BOXES:
        idle = not kind.boxes and key in OF_BOXES[section]
        return (f"{key} means nothing for {kind.name}", DETECTION) if idle else None
    if key not in TrainingConfig.model_fields:
        return None
    if kind.methods[experiment.method].closed_form:
        if key in READ_UNTRAINED:
            return None
        what = f"{key} means nothing for method {experiment.method}, which trains no tower"
        return what, f"{', '.join(READ_UNTRAINED)} alone, or a method that trains one"
    usual = {**TrainingConfig().model_dump(), **kind.training}
    cases = _trainings(experiment, section)
    if not kind.boxes and key in OF_DETECTORS and cases[0].get(key, usual[key]) != usual[key]:
        return f"{key} means nothing for {kind.name}", DETECTION
    schedules = [case.get("schedule", usual["schedule"]) for case in cases]
    if key == "milestones" and "multistep" not in schedules:
        return f"{key} mean nothing with schedule: {schedules[0]}", "schedule: multistep"
    return None


def _trainings(experiment: Experiment, section: str) -> list[dict[str, Any]]:
    """Return what is given of training in the tasks that a section is for, its own first."""
    common = dict(experiment.training)
    tasks = {
        f"per_task.{number}.training": merged(common, task.training)
        for number, task in experiment.per_task.items()
    }
    return [tasks[section]] if section in tasks else [common, *tasks.values()]


def _check_own_keys(experiment: Experiment, where: str) -> None:
    """Refuse keys of training, evaluation and data that a file sets itself and nothing reads.

    Its bases may hold some: one file can be the base of methods of both sorts.

    Args:
        experiment: its file, bases merged in.
        where: the file.

    Raises:
        InputError: for the first such key.
    """
    own = experiment.own
    sections = {f"{name}.training".lstrip("."): keys for name, keys in own.training.items()}
    for section, keys in (sections | {"evaluation": own.evaluation, "data": own.data}).items():
        for key in keys:
            if why := idle_key(experiment, section, key):
                place = section.replace(".training", ": training")
                raise InputError(why[0], f"{where}: {place}.{key}", why[1])


def check_own_options(experiment: Experiment, where: str) -> None:
    """Refuse the options and settings that a file sets itself though they mean nothing.

    An option for all tasks must mean something in some task, one of ``per_task`` in that task.

    Args:
        experiment: its file, bases merged in; ``experiment.own`` tells what it sets itself.
        where: the file.

    Raises:
        InputError: for the first of them.
    """
    _check_own_keys(experiment, where)
    method = KINDS[experiment.kind].methods[experiment.method]
    common = {"": dict(experiment.switches)}
    tasks = {
        f"per_task.{number}": merged(dict(experiment.switches), task.switches)
        for number, task in experiment.per_task.items()
    }
    own = experiment.own
    sections = [(key, "", common | tasks) for key in own.switches]
    for number, keys in own.per_task.items():
        section = f"per_task.{number}"
        sections += [(key, section, {section: tasks[section]}) for key in keys]
    for key, section, _ in sections:
        readers = readers_of(key)
        if readers and key not in method.options.model_fields:
            what = f"switch {key!r} means nothing for method {experiment.method}"
            others = ", ".join(name for name in readers if name != experiment.method)
            raise InputError(what, _place(where, section, key), f"a method that has it: {others}")
    for key, section, cases in sections:
        resolved = [_options(method, given, _place(where, name)) for name, given in cases.items()]
        if not any(method.counts(options, key) for options in resolved):
            what, expected = _why_not(experiment.method, resolved[0], key)
            raise InputError(
                f"switch {key!r} means nothing {what}", _place(where, section, key), expected
            )
        if section == "per_task.1" and experiment.start is None and key in method.options.later:
            what = f"switch {key!r} means nothing in task 1, which has no earlier task"
            raise InputError(what, _place(where, section, key), "a later task, or all of them")


def check_per_task(experiment: Experiment, numbers: Sequence[int], where: object) -> None:
    """Refuse switches of ``per_task`` by which the parts of two tasks would not fit together.

    Args:
        experiment: its file, bases merged in.
        numbers: its tasks in order.
        where: the file.

    Raises:
        InputError: for the first such switch.
    """
    if not any(task.switches for task in experiment.per_task.values()):
        return
    method = KINDS[experiment.kind].methods[experiment.method]
    before: PartOptions | None = None
    for number in numbers:
        task = experiment.per_task.get(number)
        place = f"{where}: per_task.{number}" if task else str(where)
        given = merged(dict(experiment.switches), task.switches if task else {})
        switches = resolve_options(experiment.kind, experiment.method, given, place)
        now = PartOptions(experiment.kind, method.alias or experiment.method, number, switches)
        if before is not None and (other := misfit(before, switches)) is not None:
            key, wanted, actual = other
            if not (task and key in task.switches):  # then it is the task before that differs
                number, wanted, actual = before.task, actual, wanted
            expected = f"{json.dumps(wanted)}, as in the tasks beside it: one network holds all"
            where_key = f"{where}: per_task.{number}: switches.{key}"
            raise InputError(f"{json.dumps(actual)} in one task alone", where_key, expected)
        before = now


def _place(where: str, section: str, key: str | None = None) -> str:
    """Return the file with the section, and the switch in it, for a message."""
    return ": ".join(filter(None, [where, section, key and f"switches.{key}"]))


def _why_not(method: str, options: Options, key: str) -> tuple[str, str]:
    """Return why an option means nothing, and what would give it a meaning."""
    if options.counts(key):
        others = ", ".join(readers_of(key, earlier=True))
        return f"for method {method}, which has no earlier task", f"one of {others}"
    needs = options.lacking(key)
    now = in_words({other: (getattr(options, other),) for other in needs}, ", ")
    return f"with {now}", in_words(needs)


def readers_of(key: str, earlier: bool = False) -> list[str]:
    """Return the methods that have an option; ``earlier``: those that have earlier tasks."""
    return [
        name
        for kind in KINDS.values()
        for name, method in kind.methods.items()
        if key in method.options.model_fields and not (earlier and method.trains == "all")
    ]


def _options(method: Method, given: Mapping[str, Any], where: str) -> Options:
    """Return a method's options with those given above them, those of other methods left out."""
    own = method.options.model_fields
    values = {key: value for key, value in given.items() if key in own or not readers_of(key)}
    try:
        return method.options.model_validate(merged(dict(method.defining), values))
    except ValidationError as error:
        raise input_error(method.options, error, f"{where}: switches") from None


def _dump(model: type[BaseModel], values: dict[str, Any], where: str) -> dict[str, Any]:
    """Validate ``values`` and return them all as plain JSON values."""
    try:
        return _plain(model.model_validate(values), where)
    except ValidationError as error:
        raise input_error(model, error, where) from None


def _plain(checked: BaseModel, where: str) -> dict[str, Any]:
    """Return all values of a section as plain JSON values."""
    try:
        values: dict[str, Any] = json.loads(canonical(checked.model_dump(mode="json")))
    except ValueError as error:
        raise InputError(str(error), where, "finite numbers") from None
    return values


def check_settings(task: Mapping[str, Any], where: object) -> None:
    """Raise InputError unless a task's settings are whole and valid: of this version's making.

    Args:
        task: as ``check_task`` passes it.
        where: its file.
    """
    expected = "a file made by `clclip resolve`"
    for name in TrainingConfig.model_fields:
        if name not in task["training"] and name not in (*RUNTIME_KEYS, *OPTIONAL):
            raise InputError(f"no key {name!r}", f"{where}: training", expected)
    parse(TrainingConfig, task["training"], f"{where}: training")
    kind = KINDS[task["kind"]]
    method = method_of(kind.methods, task["method"], where)
    options = parse(method.options, task["switches"], f"{where}: switches")
    for name in method.options.model_fields:
        lacking = name not in task["switches"] and name not in method.options.optional
        if lacking and method.counts(options, name):
            raise InputError(f"no key {name!r}", f"{where}: switches", expected)
    if kind.dense or method.closed_form:
        features = task.get("features")
        wanted = {"id": str, "cache": bool, "size": int, "dense": str, "taps": list, "flip": bool}
        if not isinstance(features, dict):
            raise InputError(f"got {features!r:.60}", f"{where}: features", expected)
        for name, type_ in wanted.items():
            if not isinstance(features.get(name), type_):
                problem = f"got {features.get(name)!r:.60}"
                raise InputError(problem, f"{where}: features.{name}", expected)
