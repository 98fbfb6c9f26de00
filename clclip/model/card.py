"""``card.json``: what a model folder says of itself, and the digests of its files; torch-free.

Keys: ``format``, ``kind``, ``method``, ``seed``, ``classes`` (reported, in the order of columns),
``categories`` (detection: ids of the data), ``parts`` (per task: ``folder``, ``classes``,
``hidden``, ``origin``, ``competitors``, ``data``, ``training``, ``switches``, perhaps
``thresholds``), ``text``, ``clip``, ``preprocessing``, ``scores``, ``memory``, ``versions``,
``files`` {path: SHA-256} and ``digest``, that of all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from clclip.core.artifacts import KindName
from clclip.core.digest import digest, file_sha256
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json

CARD = "card.json"
FORMAT = 1
EXPECTED = "a model folder of `clclip export`"
CALIBRATION = "calibration.json"
"""Beside a part's weights: ``thresholds`` {class: score} and what else was fitted afterwards."""

GATE = "gate.safetensors"
"""Beside the weights of a part that has a gate of its own though it is not the first: of a model
that was merged from two."""

BESIDE = (CALIBRATION, GATE)
"""What may lie beside a part's weights, and is then read."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Open(TypedDict):
    """An object that may hold more than is checked."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]  # as pydantic documents it


class _Part(_Open):
    folder: str
    classes: list[str]
    hidden: list[str]
    origin: Annotated[int, Field(ge=1)]


class _Clip(_Open):
    id: str
    model: str
    sha256: str


class _Category(_Open):
    id: int
    name: str


class _Card(_Open):
    format: int
    kind: KindName
    method: str
    classes: list[str]
    categories: list[_Category]
    parts: Annotated[list[_Part], Field(min_length=1)]
    clip: _Clip
    memory: Literal["none", "left out", "included"]
    files: dict[str, str]
    digest: str


_ADAPTER = TypeAdapter(_Card)


def write_card(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Write card.json with the digests of the folder's files as they are now, and its own.

    Args:
        folder: a model folder whose other files are written.
        card: the card; its ``files`` and ``digest`` are made anew.

    Returns:
        the card as written.
    """
    content = {key: value for key, value in card.items() if key not in ("files", "digest")}
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in _NOT_DIGESTED)
    files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}
    whole = {**content, "files": files}
    whole["digest"] = digest(whole, 64)
    write_json(folder / CARD, whole, indent=1)
    return whole


_NOT_DIGESTED = (CARD, "README.md")  # the one holds the digests, the other is for people to edit


def read_card(folder: Path, *, check_files: bool = True) -> dict[str, Any]:
    """Read card.json and check that the folder is whole.

    Args:
        folder: a model folder.
        check_files: compare the files with their digests.

    Raises:
        InputError: if the card is missing, of a newer format or changed, or a file of the folder is
            missing or not as it was written, or one that would be read is not in the card.
    """
    path = folder / CARD
    if not path.is_file():
        raise InputError("no card.json", folder, EXPECTED)
    card = read_json(path)
    if not isinstance(card, dict):
        raise InputError(f"a {type(card).__name__}", path, EXPECTED)
    version = card.get("format")
    if type(version) is int and version > FORMAT:
        what = f"a model of format {version}, newer than this clclip reads"
        raise InputError(what, path, f"format {FORMAT}, or a newer clclip")
    try:
        _ADAPTER.validate_python(card)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(f"{place}: {problem['msg']}", path, EXPECTED) from None
    if card["digest"] != digest({k: v for k, v in card.items() if k != "digest"}, 64):
        raise InputError("changed since it was written", path, "the card as clclip wrote it")
    if check_files:
        _check_files(folder, card["files"])
        _check_listed(folder, card)
    return card


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Compare the files with their digests."""
    for name, wanted in files.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise InputError(f"the file name {name!r}", folder / CARD, "a file inside the folder")
        if not path.is_file():
            raise InputError("a file of the model is missing", path, f"what {CARD} names")
        if file_sha256(path) != wanted:
            what = "a file of the model has changed since it was written"
            raise InputError(what, path, f"the bytes whose SHA-256 is in {CARD}")


def _check_listed(folder: Path, card: Mapping[str, Any]) -> None:
    """Refuse what would be read beside a part's weights though the card does not list it."""
    for part in card["parts"]:
        for name in BESIDE:
            path = folder / part["folder"] / name
            if path.exists() and f"{part['folder']}/{name}" not in card["files"]:
                what = f"a file that {CARD} does not list, so that nobody knows whose it is"
                expected = "the folder as clclip wrote it: without this file"
                raise InputError(what, path, expected)


def is_model(place: Path) -> bool:
    """Tell whether ``place`` is a model folder, as opposed to a seed folder of a run."""
    return (place / CARD).is_file()


def hidden_columns(card: Mapping[str, Any]) -> list[str]:
    """Return the columns of dropped classes."""
    return [name for part in card["parts"] for name in part["hidden"]]


def thresholds(card: Mapping[str, Any]) -> dict[str, float]:
    """Return the classes' own thresholds, of those parts that have some."""
    return {k: v for part in card["parts"] for k, v in part.get("thresholds", {}).items()}
