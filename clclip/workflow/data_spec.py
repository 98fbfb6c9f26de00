"""An experiment's data at plan time: canonical description, id, declared classes, groups."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.config.experiment import Experiment
from clclip.config.streams import stream
from clclip.core.artifacts import Task
from clclip.core.errors import InputError, WrongValue, nearest
from clclip.core.files import expanded
from clclip.core.models import check_groups
from clclip.model.kinds import KINDS

VOC_SPLITS = {"2007": ("trainval", "test"), "2012": ("train", "val")}
LOCATION_KEYS = (
    "images train test year class_names test_fraction split_seed on_bad_box on_bad_image exif"
).split()


def data_spec(
    experiment: Experiment,
    base: Path,
    where: object,
    cache: Path | None = None,
    present: bool = True,
) -> dict[str, Any]:
    """Return the canonical description of the data, with its content-addressed id.

    Args:
        experiment: the experiment.
        base: folder that a relative root starts from.
        where: the experiment's file, for messages.
        cache: folder for facts of the annotations that are slow to get.
        present: whether the data must be there; if not, and it is not, the id ends in ``-missing``.

    Raises:
        InputError: if the data is not there or the world does not exist.
    """
    data = experiment.data
    if data.format == "shapes":
        from clclip.data.shapes.worlds import changes, world_spec

        world = data.world or KINDS[experiment.kind].world
        knobs = data.difficulty and data.difficulty.model_dump(mode="json", exclude_unset=True)
        changed = changes({"draw": data.draw, "difficulty": knobs})
        with _errors_located_in(where):
            known = world_spec(world, **changed)
        if known["kind"] != experiment.kind:
            what = f"world {world!r} is for {known['kind']}"
            raise InputError(what, f"{where}: data.world", f"a world for {experiment.kind}")
        if data.image_rule == "place" and not known["places"]:
            what = f"image_rule place, but world {world!r} has no places"
            expected = "world: clutter20_places, or difficulty: {places: 2}"
            raise InputError(what, f"{where}: data.image_rule", expected)
        return {"id": known["data_id"], "format": "shapes", "world": world, **changed}
    spec: dict[str, Any] = {"format": data.format}
    spec |= {key: getattr(data, key) for key in LOCATION_KEYS if getattr(data, key) is not None}
    if data.links != "follow":
        spec["links"] = data.links
    if data.download:
        spec["download"] = True
    if data.format == "voc":
        spec["year"] = data.year or "2007"
        train, test = VOC_SPLITS[spec["year"]]
        spec |= {"train": data.train or train, "test": data.test or test}
    root = Path(os.path.abspath(base / expanded(str(data.root))))
    spec["root"] = str(root)
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", root.name).strip("_")[:40] or "data"
    if not present and not root.is_dir() and not data.download:
        return {"id": f"{stem}-missing", **spec}
    from clclip.data.version import data_version

    with _errors_located_in(where):
        version = data_version(spec, cache)
    return {"id": f"{stem}-{version}", **spec}


def check_places(spec: Mapping[str, Any], tasks: int, where: object) -> None:
    """Refuse ``image_rule: place`` where a generated world has fewer places than tasks.

    Raises:
        InputError: if a task would get no image.
    """
    if spec["format"] != "shapes":
        return  # the split counts the places of people's own data
    from clclip.data.shapes.worlds import changes, world_spec

    places = world_spec(spec["world"], **changes(spec))["places"]
    if places < tasks:
        what = f"image_rule place with {tasks} tasks, but {places} place{'s' * (places > 1)}"
        raise InputError(what, f"{where}: data", f"difficulty: {{places: {tasks}}}, at most 4")


def declared_classes(
    spec: Mapping[str, Any], where: object, cache: Path | None = None
) -> list[str] | None:
    """Return the classes that the data declares, in its own order; None before a download.

    Raises:
        InputError: if the annotations cannot be read.
    """
    from clclip.data.version import declared_classes as declared

    with _errors_located_in(where):
        return declared(dict(spec), cache)


def unfit_classes(spec: Mapping[str, Any], cache: Path | None = None) -> dict[str, list[str]]:
    """Return {class: [what, where, expected]} of those that the data has and no task can use.

    Raises:
        InputError: if the data cannot be read.
    """
    from clclip.data.version import unfit_classes as unfit

    return unfit(dict(spec), cache)


def shown_name(spec: Mapping[str, Any]) -> str:
    """Return the name that results show for the data: a shipped world's own, else the id."""
    changed = spec.get("draw") or spec.get("difficulty")
    return spec["id"] if changed else spec.get("world") or spec["id"]


def class_groups(
    experiment: Experiment,
    seed: int,
    declared: Sequence[str] | None,
    unfit: Mapping[str, Sequence[str]],
    where: object,
) -> tuple[list[list[str]], dict[str, str]]:
    """Return the class groups and the text names, checked against the classes that the data has."""
    if (name := experiment.stream_name) is not None:
        key = "stream" if experiment.stream else "protocol"
        shipped = stream(name, f"{where}: {key}", experiment.kind)
        # without the data (``describe``) classes that only it knows are numbered
        stand_in = [f"class {k}" for k in range(1, sum(shipped.sizes) + 1)]
        groups = shipped.groups(seed, stand_in if declared is None else declared)
        text = {**shipped.text, **experiment.text}
    else:
        groups, text = [list(group) for group in experiment.tasks or []], dict(experiment.text)
    try:
        check_groups(groups)
    except WrongValue as error:
        raise InputError(error.what, f"{where}: tasks", error.expected) from None
    classes = [name for group in groups for name in group]
    for name in classes:
        if name in unfit:
            raise InputError(*unfit[name])
        if declared is not None and name not in declared:
            some = ", ".join(declared[:5]) + (", ..." if len(declared) > 5 else "")
            what = f"class {name!r} is not in the data{nearest(name, declared)}"
            raise InputError(what, where, f"classes that the data declares: {some}")
    for name in experiment.text:
        if name not in classes:
            what = f"text for {name!r}{nearest(name, classes)}"
            raise InputError(what, f"{where}: text", "a class of the tasks")
    return groups, text


def named_classes(tasks: Iterable[Task], data: str) -> list[str]:
    """Return the classes that the tasks of a plan name of a data set, sorted."""
    own = (task["groups"] for task in tasks if task["data"]["id"] == data)
    return sorted({name for groups in own for group in groups for name in group})


@contextlib.contextmanager
def _errors_located_in(where: object) -> Iterator[None]:
    """Put the experiment's file before the place of errors about keys of ``data``."""
    try:
        yield
    except InputError as error:
        if not error.where.startswith("data"):
            raise
        raise InputError(error.what, f"{where}: {error.where}", error.expected) from None


def data_root(given: str | None, folders: Sequence[Path]) -> Path | None:
    """Return ``data_root`` as an existing absolute folder, or None if it is not given."""
    if given is None:
        return None
    tried = [Path(os.path.abspath(folder / expanded(given))) for folder in folders]
    for path in tried:
        if path.is_dir():
            return path
    raise InputError("no such folder", f"data_root: {tried[0]}", "the folder that holds the data")


def fractions(experiment: Experiment, tasks: int) -> dict[str, Any]:
    """Return the shares of images of the tasks so far, if the experiment gives any."""
    given = experiment.data.fractions
    return {} if given is None else {"fractions": list(given[:tasks])}
