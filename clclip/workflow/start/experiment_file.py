"""``clclip init``: a commented experiment file of one's own data, checked before it is written."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clclip.config.experiment import NAME, RESERVED
from clclip.config.names import is_name
from clclip.core.errors import InputError
from clclip.core.files import write_text
from clclip.data.index import instances
from clclip.data.memo import memo_scope
from clclip.data.preview import preview
from clclip.workflow.start.recognise import recognise

# What is forgiven where the data would be refused, and what it means.
FORGIVEN = {
    "on_bad_box": ("clip", "boxes that leave their image are cut"),
    "on_bad_image": ("skip", "images that are missing or cannot be read are left out"),
}


@dataclass(frozen=True)
class Written:
    """What ``init`` wrote.

    Attributes:
        path: the experiment file.
        data: its ``data`` section.
        tasks: class names by task.
        left_out: classes that no training image shows.
    """

    path: Path
    data: dict[str, Any]
    tasks: list[list[str]]
    left_out: list[str]


def init(folder: Path, out: Path | None, form: str | None = None, tasks: int = 2) -> Written:
    """Write an experiment file for a data set.

    Args:
        folder: the data set.
        out: the file (default: the folder's name, in the working directory).
        form: the data set's format, where more than one would fit.
        tasks: number of groups that the classes are dealt into.

    Raises:
        InputError: if the data is no known or no sound data set, has fewer classes than tasks, or
            the file is there or cannot be called so.
    """
    path = out or Path(f"{_plain(folder.absolute().name)}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"got {str(path)!r}", "--out", "a path that ends in .yaml")
    if not NAME.fullmatch(path.stem) or path.stem in RESERVED or is_name(path.stem):
        expected = "--out NAME.yaml: letters, digits, '_', '.', '-', and no shipped experiment"
        raise InputError(f"an experiment cannot be called {path.stem!r}", path, expected)
    if os.path.lexists(path):
        raise InputError("a file that is there", path, "--out with another name")
    keys, classes = _read(folder, recognise(folder, form))
    trained = [name for name, count in classes.items() if count]
    if tasks < 1 or len(trained) < tasks:
        what = f"{len(trained)} classes with training images"
        raise InputError(what, folder, f"one for each of {tasks} tasks, or another --tasks from 1")
    size, more = divmod(len(trained), tasks)
    ends = [(k + 1) * size + min(k + 1, more) for k in range(tasks)]
    groups = [trained[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    data = {"format": keys["format"], "root": _root(folder, path.parent)} | keys
    left_out = [name for name, count in classes.items() if not count]
    write_text(path, text(data, groups, left_out))
    return Written(path, data, groups, left_out)


def _read(folder: Path, keys: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Read the data as a run would; forgive what can be, if it is refused otherwise.

    Returns:
        The keys of ``data``, and class -> number of training instances.
    """
    refused: InputError | None = None
    for forgiven in ((), ("on_bad_box",), tuple(FORGIVEN)):
        own = keys | {key: FORGIVEN[key][0] for key in forgiven}
        try:
            with memo_scope():
                spec = {**own, "id": "init", "root": str(folder.absolute())}
                splits = preview(spec, folder)
        except InputError as error:
            refused = refused or error
            continue
        if splits is None:
            raise InputError("a data set that cannot be read", folder, "images and labels")
        train = splits["train"]
        names = train.get("classes") or [c["name"] for c in train["categories"]]
        return own, instances(train, names)
    raise refused or InputError("no data", folder, "a data set")


def _root(folder: Path, home: Path) -> str:
    """Return the folder as the file writes it: from the file's own place if it lies below that."""
    inside = os.path.relpath(folder.absolute(), home.absolute())
    return str(folder.absolute()) if inside.startswith("..") else inside


def _plain(name: str) -> str:
    """Return a valid experiment name from a folder's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:60] or "mine"


def text(data: dict[str, Any], groups: Sequence[Sequence[str]], left_out: Sequence[str]) -> str:
    """Return the experiment file."""
    boxes = data["format"] != "folder"
    return "".join(
        [
            "# Written by `clclip init`, yours to edit. All keys: docs, Config.\n",
            "# Check it: clclip describe THIS_FILE      Run it: clclip run THIS_FILE\n",
            _method(boxes),
            _data(data),
            _tasks(groups, left_out, boxes),
            _clip(),
            _training(boxes),
            "seeds: [0] # [0, 1, 2] tells how much a result owes to chance\n",
        ]
    )


def _method(boxes: bool) -> str:
    """Return the kind and the method."""
    if boxes:
        return (
            "kind: detection\n"
            "method: clclip # others: fvit (forgets), fvit_pseudo, fvit_replay, joint\n"
        )
    return (
        "kind: classification\n"
        "method: seca_cov # closed form, seconds; others: ranpac, seca, zeroshot, joint\n"
    )


def _data(data: dict[str, Any]) -> str:
    """Return the section ``data``, a key a line where a comment says why."""
    plain = {key: value for key, value in data.items() if key not in (*FORGIVEN, "split_seed")}
    why = {"test_fraction": " # no test images were found: a fifth is drawn"}
    why |= {key: f" # {comment}" for key, (_, comment) in FORGIVEN.items()}
    lines = ["\ndata:\n"]
    lines += [f"  {key}: {_scalar(value)}{why.get(key, '')}\n" for key, value in plain.items()]
    if "test_fraction" in data:
        lines += [f"  split_seed: {data['split_seed']} # another seed draws others\n"]
    lines += [f"  {key}: {data[key]}{why[key]}\n" for key in FORGIVEN if key in data]
    return "".join(lines)


def _tasks(groups: Sequence[Sequence[str]], left_out: Sequence[str], boxes: bool) -> str:
    """Return the tasks, in the order of the data."""
    lines = [
        "\n# Tasks in the order in which they come; each is trained on its own classes only. Move\n"
        "# names between the lists, add a list when classes come later: what was trained stays.\n"
        "tasks:\n"
    ]
    for number, group in enumerate(groups, start=1):
        lines += [f"  - # task {number}: {len(group)} classes\n"]
        lines += [f"    - {_scalar(name)}\n" for name in group]
    if left_out:
        shown = ", ".join(map(json.dumps, left_out[:20])) + (" ..." if left_out[20:] else "")
        what = "box" if boxes else "image"
        lines += [f"# without a training {what}: {shown}\n"]
    return "".join(lines)


def _clip() -> str:
    """Return what is said of the CLIP."""
    return (
        "\n# Left out, `clip` is the small tower of the package: quick, no download, but only has\n"
        "# seen drawn shapes. For photographs take a real one, downloaded once (about 600 MB):\n"
        "# clip: {model: ViT-B-16, tag: openai}\n"
        "# Where a class name is no plain word, say what CLIP should read:\n"
        '# text: {pcb_err_04: "a scratch on a circuit board"}\n'
    )


def _training(boxes: bool) -> str:
    """Return the section ``training``."""
    if not boxes:
        return "\n"
    return (
        "\ntraining:\n"
        "  epochs: 8 # 14 with a real tower\n"
        "  min_steps: 280 # of a task at least: one of few images needs steps, not passes\n"
        "  lr: 2e-3\n"
        "  image_size: 256 # px of the square canvas, a multiple of 32; small things need more\n"
    )


def _scalar(value: Any) -> str:
    """Return a value as YAML: text in quotes wherever it might be read as something else."""
    if not isinstance(value, str):
        return str(value)
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9 _./-]*[A-Za-z0-9_]|[A-Za-z]|\.", value)
    words = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    return value if plain and value.lower() not in words else json.dumps(value, ensure_ascii=False)


def summary_text(written: Written) -> str:
    """Return what was recognised and the next command."""
    sizes = " + ".join(str(len(group)) for group in written.tasks)
    count = sum(map(len, written.tasks))
    lines = [f"{written.data['format']} data, {count} classes: tasks of {sizes}"]
    if written.left_out:
        lines += [f"left out, without training images: {len(written.left_out)} classes"]
    lines += [
        f"{value[1]} ({key}: {value[0]})" for key, value in FORGIVEN.items() if key in written.data
    ]
    file = shlex.quote(str(written.path))
    start = "uv run clclip" if "UV" in os.environ else "clclip"
    lines += [f"written: {written.path}", "next:"]
    lines += [f"  {start} describe {file}   # what would run, how long", f"  {start} run {file}"]
    return "\n".join(lines)
