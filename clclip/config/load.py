"""Experiments: looked up by name, by path or in a run's list, read with their bases merged in."""

from __future__ import annotations

import os
import shlex
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clclip.clip.own.hub import PREFIX
from clclip.clip.own.sources import LOCAL
from clclip.config.experiment import Experiment
from clclip.config.names import is_name, read_name, shipped_names, values_of
from clclip.config.start import with_model
from clclip.config.yaml_files import merged, read_yaml, shipped_folder
from clclip.core.errors import InputError
from clclip.core.files import expanded
from clclip.core.models import parse

__all__ = ["find_experiment", "merged", "read_experiment", "read_yaml", "shipped_names"]
LISTED = "listed:"  # begins an experiment of a run's list in the config of a job
STREAM_KEYS = ("tasks", "protocol", "stream")  # one of them says what the tasks are


@dataclass(frozen=True)
class Source:
    """Where an experiment is written: in a file, in its name or in a run's list.

    Attributes:
        label: what messages call it: its path, its name, or its place in the list.
        values: its own keys.
        name: its name unless ``values`` gives one.
        folders: where its relative paths start from, tried in order; none for a shipped name,
            which knows no place of the data.
        file: the file it stands in.
    """

    label: str
    values: dict[str, Any]
    name: str | None
    folders: tuple[Path, ...]
    file: Path | None

    @property
    def shipped(self) -> bool:
        """Whether it is a name that stands for a stream and a method."""
        return not self.folders

    def __str__(self) -> str:
        return self.label


def find_experiment(
    entry: str | Mapping[str, Any],
    folders: Iterable[Path] = (),
    where: object = "experiments",
) -> Source:
    """Return an experiment given by name, by path, or as a mapping.

    Args:
        entry: STREAM_METHOD[_VARIANT...], a path ending in .yaml or .yml, or what such a file
            would hold, with a ``name``.
        folders: where relative paths start from, tried in order (default: the working directory).
        where: the key that names it, for messages.

    Raises:
        InputError: if there is no such experiment.
    """
    folders = tuple(folders) or (Path.cwd(),)
    if isinstance(entry, Mapping):
        return _listed(dict(entry), folders, where)
    if entry.startswith(LISTED):
        listed = yaml.safe_load(urllib.parse.unquote(entry.removeprefix(LISTED)))
        return _listed(listed["values"], tuple(map(Path, listed["folders"])), where)
    if is_path(entry):
        tried = [folder / entry for folder in folders]
        for path in tried:
            if path.is_dir():
                raise _is_a_folder(path)
            if path.exists():
                return file_source(path)
        places = " or ".join(dict.fromkeys(str(path) for path in tried))
        raise InputError("no such experiment file", places, "a YAML file, or a shipped name")
    try:
        name = read_name(entry, where)
    except InputError:
        if entry and (home := next((f for f in folders if (f / entry).is_dir()), None)):
            raise _is_a_folder(home / entry) from None
        raise
    file = shipped_folder() / "streams" / f"{name.stream.file}.yaml"
    return Source(entry, values_of(name), entry, (), file)


def is_path(entry: object) -> bool:
    """Tell whether an entry of ``experiments`` is a path, as opposed to a shipped name."""
    return isinstance(entry, str) and (entry.endswith((".yaml", ".yml")) or os.sep in entry)


def _is_a_folder(path: Path) -> InputError:
    """Return the error of who gives a data set where an experiment is asked for."""
    expected = f"an experiment file; `clclip init {shlex.quote(str(path))}` writes one"
    return InputError("a folder", path, expected)


def file_source(path: Path) -> Source:
    """Return an experiment file.

    Raises:
        InputError: if it cannot be read, or is no mapping.
    """
    return Source(str(path), read_yaml(path), path.stem, (path.parent,), path)


def _listed(values: dict[str, Any], folders: tuple[Path, ...], where: object) -> Source:
    """Return an experiment that is written into a run's list."""
    name = values.get("name")
    if not isinstance(name, str):
        what = f"an experiment without a name ({', '.join(map(str, values)) or 'no keys'})"
        raise InputError(what, where, "{name: NAME, base: ..., what differs: ...}")
    return Source(f"{where}: {name}", values, name, folders, None)


def listed_for_jobs(values: Mapping[str, Any], folders: Iterable[Path]) -> str:
    """Return an experiment of a run's list, and where its paths start from, as one word.

    Snakemake hands the config on to jobs as text, of which it reads what lies inside a list as
    words: numbers and null would be none any more.
    """
    listed = {"values": _plain(values), "folders": [os.path.abspath(folder) for folder in folders]}
    return LISTED + urllib.parse.quote(yaml.safe_dump(listed, default_flow_style=True), safe="")


def _plain(value: Any) -> Any:
    """Return a value with plain mappings and lists in it, which any writer of YAML knows."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_experiment(source: Source | Path | str) -> tuple[Experiment, Path]:
    """Read an experiment with its bases.

    Returns:
        The experiment, its name filled in, and the folder that its data's root starts from: that
        of the file which writes it. A shipped stream knows no place of the data: it starts at the
        file that names the stream, or where the command was typed.

    Raises:
        InputError: if anything in it or its bases is wrong.
    """
    if not isinstance(source, Source):
        source = file_source(source) if isinstance(source, Path) else find_experiment(source)
    values, folder = resolved(source)
    values = with_model(values, source.label)
    experiment = parse(Experiment, {"name": source.name} | values, source.label)
    if not source.shipped and is_name(str(experiment.name)):
        what = f"name {experiment.name!r} is a shipped experiment's"
        raise InputError(what, source, "another name")
    own = {} if source.shipped else source.values
    return experiment.inheriting(own), folder or Path.cwd()


def resolved(source: Source, above: tuple[str, ...] = ()) -> tuple[dict[str, Any], Path | None]:
    """Return an experiment's keys over those of its bases, and where its data's root starts.

    Returns:
        The keys, and the folder; None for what is shipped.

    Raises:
        InputError: if a base is missing or wrong, or bases name each other.
    """
    values, own = source.values, source.folders or (Path.cwd(),)
    known = str(source.file.resolve()) if source.file and not source.shipped else source.label
    if known in above:
        raise InputError("base files that name each other", source, "a chain that ends")
    if isinstance(values.get("clip"), dict) and source.folders:
        values = {**values, "clip": _placed(values["clip"], own)}
    if isinstance(values.get("start"), str):
        values = {**values, "start": _absolute(values["start"], own)}
    base = values.get("base")
    if base is None:
        return values, None if source.shipped else _start(values, own)
    if not isinstance(base, str):
        raise InputError(f"got {base!r}", f"{source}: base", "a shipped name or a YAML file")
    below, folder = resolved(find_experiment(base, own, f"{source}: base"), (*above, known))
    below = {key: value for key, value in below.items() if key != "name"}
    if any(key in values for key in STREAM_KEYS):
        below = {key: value for key, value in below.items() if key not in STREAM_KEYS}
    if isinstance(values.get("data"), dict) and "format" in values["data"]:
        below.pop("data", None)  # keys of another format would have no meaning
    if isinstance(values.get("clip"), dict) and _names_another(values["clip"], below.get("clip")):
        below.pop("clip")
    values = merged(below, values)
    if not source.shipped and (folder is None or _writes_root(source.values)):
        folder = _start(values, own)
    return values, folder


def _writes_root(values: Mapping[str, Any]) -> bool:
    """Tell whether an experiment's own keys hold ``data.root``."""
    data = values.get("data")
    return isinstance(data, dict) and "root" in data


def _start(values: Mapping[str, Any], folders: tuple[Path, ...]) -> Path:
    """Return which of the folders holds the data's root; the first, if none does."""
    data = values.get("data")
    root = data.get("root") if isinstance(data, dict) else None
    there = (folder for folder in folders if isinstance(root, str) and (folder / root).exists())
    return next(there, folders[0])


def _placed(clip: dict[str, Any], folders: tuple[Path, ...]) -> dict[str, Any]:
    """Return a section ``clip`` whose paths start at the folder of the file that writes them."""
    places = {
        k: _absolute(clip[k], folders) for k in ("file", "config") if isinstance(clip.get(k), str)
    }
    model = clip.get("model")
    if isinstance(model, str) and model.startswith(LOCAL) and model != LOCAL:
        places["model"] = LOCAL + _absolute(model.removeprefix(LOCAL), folders)
    return {**clip, **places}


def _absolute(path: str, folders: tuple[Path, ...]) -> str:
    """Return a path from the first of the folders in which it exists, else from the first."""
    tried = [os.path.abspath(folder / expanded(path)) for folder in folders]
    return next(filter(os.path.exists, tried), tried[0])


def _names_another(clip: dict[str, Any], below: Any) -> bool:
    """Tell whether a base's section ``clip`` is of another sort: its keys then mean nothing."""
    sorts = [
        "config" in c or str(c.get("model")).startswith((PREFIX, LOCAL))
        for c in (clip, below)
        if isinstance(c, dict)
    ]
    return len(sorts) == 2 and ("model" in clip or "config" in clip) and any(sorts)
