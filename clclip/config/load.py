"""Experiment files: found by shipped name or by path, read with their bases merged in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from clclip.clip.own.hub import PREFIX
from clclip.clip.own.sources import LOCAL
from clclip.config.experiment import Experiment
from clclip.core.errors import InputError, nearest
from clclip.core.files import expanded
from clclip.core.models import parse

HERE = Path(__file__).parent
MAX_BYTES = 4_000_000  # an experiment with 10,000 class names is far smaller


def shipped_folder() -> Path:
    """Return the folder of the shipped experiments: in a wheel inside the package."""
    inside = HERE / "experiments_data"
    return inside if inside.is_dir() else HERE.parents[1] / "config" / "experiments"


@cache
def shipped_names() -> tuple[str, ...]:
    """Return the names of all shipped experiments."""
    return tuple(sorted(path.stem for path in shipped_folder().glob("*.yaml")))


def find_experiment(entry: str, folders: Iterable[Path] = ()) -> Path:
    """Return the file of an experiment given by shipped name or by path.

    Args:
        entry: a shipped name, or a path ending in .yaml or .yml.
        folders: where relative paths start from, tried in order (default: the working directory).

    Raises:
        InputError: if there is no such experiment.
    """
    if entry.endswith((".yaml", ".yml")) or os.sep in entry:
        tried = [folder / entry for folder in (list(folders) or [Path.cwd()])]
        for path in tried:
            if path.exists():
                return path
        where = " or ".join(dict.fromkeys(str(path) for path in tried))
        raise InputError("no such experiment file", where, "a YAML file, or a shipped name")
    if entry in shipped_names():
        return shipped_folder() / f"{entry}.yaml"
    what = f"unknown experiment {entry!r}{nearest(entry, shipped_names())}"
    raise InputError(what, "experiments", "a shipped name, or a path that ends in .yaml")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; tags other than YAML's own are refused.

    Raises:
        InputError: if the file cannot be read, is not UTF-8, is not YAML or is not a mapping.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path.stat().st_size} bytes", path, f"at most {MAX_BYTES}")
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot be read ({reason})", path, "a readable YAML file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", path, "a text file in UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"not plain YAML ({problem})", where, "plain keys and values") from None
    if not isinstance(values, dict):
        what = "an empty file" if values is None else f"a {type(values).__name__}"
        raise InputError(f"got {what}", path, "a mapping of keys to values")
    for key in values:
        if not isinstance(key, str):
            raise InputError(f"got key {key!r}", path, "keys that are text")
    return values


class UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice and aliases that multiply."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count aliases: a hundred are plenty, nested ones grow exponentially."""
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > 100:
                raise yaml.YAMLError("more than 100 aliases")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse duplicate keys, of which YAML would silently keep the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key.value, str):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_experiment(path: Path) -> tuple[Experiment, Path]:
    """Read an experiment file with its bases.

    Returns:
        The experiment, its name filled in, and the folder that relative paths start from: that of
        the file which gives ``data``.

    Raises:
        InputError: if anything in the file or its bases is wrong.
    """
    values, folder = _with_bases(path, ())
    experiment = parse(Experiment, {"name": path.stem} | values, str(path))
    name = str(experiment.name)
    shipped = shipped_folder() / f"{name}.yaml"
    if name in shipped_names() and path.resolve() != shipped.resolve():
        raise InputError(f"name {name!r} is a shipped experiment's", path, "another name")
    if folder.resolve().is_relative_to(shipped_folder().resolve()):
        folder = Path.cwd()  # a shipped file knows no place of the data: data_root or this folder
    return experiment.model_copy(update={"name": name}).inheriting(read_yaml(path)), folder


def _with_bases(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], Path]:
    """Return the values of ``path`` over those of its base, and the folder that gave ``data``."""
    if path.resolve() in above:
        raise InputError("base files that name each other", path, "a chain that ends")
    values = read_yaml(path)
    if isinstance(values.get("clip"), dict):
        values["clip"] = _placed(values["clip"], path.parent)
    base = values.get("base")
    if base is None:
        return values, path.parent
    if not isinstance(base, str):
        raise InputError(f"got {base!r}", f"{path}: base", "a shipped name or a YAML file")
    source = find_experiment(base, [path.parent])
    below, folder = _with_bases(source, (*above, path.resolve()))
    below.pop("name", None)
    if "tasks" in values or "protocol" in values:
        below.pop("tasks", None)
        below.pop("protocol", None)
    if isinstance(values.get("data"), dict) and "format" in values["data"]:
        below.pop("data", None)  # keys of another format would have no meaning
    if isinstance(values.get("clip"), dict) and _names_another(values["clip"], below.get("clip")):
        below.pop("clip")
    return merged(below, values), path.parent if "data" in values else folder


def _placed(clip: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a section ``clip`` whose paths start at the folder of the file that writes them."""

    def absolute(path: str) -> str:
        return os.path.abspath(folder / expanded(path))

    places = {k: absolute(clip[k]) for k in ("file", "config") if isinstance(clip.get(k), str)}
    model = clip.get("model")
    if isinstance(model, str) and model.startswith(LOCAL) and model != LOCAL:
        places["model"] = LOCAL + absolute(model.removeprefix(LOCAL))
    return {**clip, **places}


def _names_another(clip: dict[str, Any], below: Any) -> bool:
    """Tell whether a base's section ``clip`` is of another sort: its keys then mean nothing."""
    sorts = [
        "config" in c or str(c.get("model")).startswith((PREFIX, LOCAL))
        for c in (clip, below)
        if isinstance(c, dict)
    ]
    return len(sorts) == 2 and ("model" in clip or "config" in clip) and any(sorts)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return ``above`` laid over ``below``: mappings key by key, everything else replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = merged(old, value) if both else value
    return result
