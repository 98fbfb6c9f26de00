"""The file that gives class folders their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.data.readers.annotated import check_class_name
from clclip.data.readers.fields import type_name


def written_names(spec: dict[str, Any], folders: list[str], fit: list[str]) -> dict[str, str]:
    """Return {folder: class name as it is written} of the folders that have one, as far as known.

    Without ``spec["class_names"]`` a class is named as its folder. The file is json or yaml (a
    mapping, or a list in the order of the sorted folders) or text: lines ``folder name``, or one
    name per folder in order.

    Args:
        spec: the data spec.
        folders: all class folders, sorted.
        fit: those that need a name; a list may name all folders or these.

    Raises:
        InputError: if a folder of ``fit`` has no name, two share one, or the file cannot be read.
    """
    if not spec.get("class_names"):
        return {folder: folder for folder in folders}
    path = Path(spec["root"]) / spec["class_names"]
    value = _read_names(path, folders)
    if isinstance(value, list):
        named = fit if len(value) == len(fit) else folders
        if len(value) != len(named):
            expected = f"{len(folders)}, one per class folder in order"
            raise InputError(f"{len(value)} names", path, expected)
        value = dict(zip(named, value, strict=True))
    owner: dict[str, str] = {}
    for folder in fit:
        if folder not in value:
            expected = "a name for every class folder, folders that read as numbers in quotes"
            raise InputError(f"no name for class folder {folder!r}", path, expected)
        name = check_class_name(value[folder], f"{path}: {folder}")
        if name in owner:
            what = f"name {name!r} for both {owner[name]!r} and {folder!r}"
            raise InputError(what, path, "a different name for every class folder")
        owner[name] = folder
    return {folder: value[folder] for folder in folders if isinstance(value.get(folder), str)}


def _read_names(path: Path, folders: list[str]) -> dict[str, Any] | list[Any]:
    """Read a class-name file of any of its forms."""
    if path.suffix == ".json":
        value = read_json(path)
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
            value = (
                yaml.safe_load(text)
                if path.suffix in (".yaml", ".yml")
                else _text_names(text, folders)
            )
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())[:80]
            raise InputError(
                f"class names cannot be read ({reason})", path, "UTF-8 text, json or yaml"
            ) from None
    if not isinstance(value, dict | list):
        raise InputError(type_name(value), path, "a mapping folder -> name, or a list of names")
    return value


def _text_names(text: str, folders: list[str]) -> dict[str, str] | list[str]:
    """Read lines ``folder name``, or names in the order of the folders."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if set(lines) == set(folders):  # the folders themselves, in whatever order
        return {line: line for line in lines}
    pairs = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    return pairs if set(pairs) & set(folders) else lines
