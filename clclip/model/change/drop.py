"""``clclip drop``: classes taken out of a model without touching the others.

A dropped class stays as a hidden column: its text and its routing threshold go on competing, for
the shares of its own task and for the text scores of later ones, exactly as before. Its expert is
wiped and it is never reported. The others' detections therefore stay bit for bit what they were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clclip.core.artifacts import Task
from clclip.core.digest import canonical
from clclip.core.errors import InputError, nearest
from clclip.core.files import read_json, write_json, write_text
from clclip.core.task import current_classes, has_boxes, text_names
from clclip.evaluation.continual import mean, weighted_mean
from clclip.model.card import CALIBRATION, hidden_columns
from clclip.model.change.texts import write_texts
from clclip.model.describe import part, texts
from clclip.model.export import copy_part, copy_tower, finish
from clclip.model.folder import check_apart, new_folder
from clclip.model.place import ModelPlace, open_place
from clclip.model.use.words import named

HIDDEN = "{}  (dropped)"
"""The name of a hidden column. Its two spaces are in no class of a data set, whose white space is
folded to single ones: so a class may really be called "X (dropped)"."""

BANK = ("convs", "conv_bias", "score", "bias", "beta", "box")  # an expert's tensors; not threshold


def drop(place: Path, classes: Sequence[str], out: Path) -> dict[str, Any]:
    """Write a model without some classes.

    Args:
        place: a model folder.
        classes: their names, in whatever spelling of the same canonical name.
        out: the new model folder.

    Returns:
        its card.

    Raises:
        InputError: if a class is none of the model's, or none would be left.
    """
    model = open_place(place)
    card = model.card
    dropped = []
    for given in classes:
        name = named(given, card["classes"])
        if name is None:
            what = f"class {given!r}{nearest(given, card['classes'])}"
            expected = f"classes of the model: {', '.join(card['classes'])}"
            raise InputError(what, "--classes", expected)
        dropped += [name] if name not in dropped else []
    remaining = [name for name in card["classes"] if name not in dropped]
    if not remaining:
        raise InputError("all classes", "--classes", "at least one class left")
    columns = hidden_names(dropped, [name for g in model.plan["groups"] for name in g])
    check_apart(out, model.place)
    with new_folder(out) as folder:
        for source in model.folders:
            _rewrite(source, folder / source.name, columns)
        plan = read_json(folder / model.folders[-1].name / "task.json")
        write_texts(model, plan, folder)
        if (place / "clip").is_dir():
            copy_tower(model, folder)
        hidden = [*hidden_columns(card), *columns.values()]
        return finish(folder, _card(model, plan, folder, remaining, hidden), out.name)


def hidden_names(classes: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Return class -> the name of its hidden column, which no other column has."""
    result, taken = {}, set(known)
    for name in classes:
        column, number = HIDDEN.format(name), 1
        while column in taken:
            number += 1
            column = f"{HIDDEN.format(name)[:-1]} {number})"
        taken.add(column)
        result[name] = column
    return result


def _rewrite(source: Path, target: Path, columns: dict[str, str]) -> None:
    """Write a part with some columns hidden: the plan renamed, the experts wiped."""
    plan = read_json(source / "task.json")
    copy_part(source, target)
    own = current_classes(plan)
    text_of = dict(zip((n for g in plan["groups"] for n in g), text_names(plan), strict=True))
    plan["text"] |= {column: text_of[name] for name, column in columns.items() if name in text_of}
    plan["text"] = {name: text for name, text in plan["text"].items() if name not in columns}
    plan["groups"] = [[columns.get(name, name) for name in group] for group in plan["groups"]]
    seen = {name for group in plan["groups"] for name in group}
    hidden = [*plan.get("hidden", ()), *(c for c in columns.values() if c in seen)]
    plan |= {"hidden": hidden} if hidden else {}
    write_text(target / "task.json", canonical(plan) + "\n")
    if (target / CALIBRATION).is_file():
        _without(target / CALIBRATION, columns)
    rows = [k for k, name in enumerate(own) if name in columns]
    if rows and plan["switches"].get("experts"):
        _wipe(target / "weights.safetensors", plan["task"] - 1, len(own), rows)


def _without(path: Path, columns: Collection[str]) -> None:
    """Take classes out of what was fitted for each."""
    content = read_json(path)
    for key, value in content.items():
        if isinstance(value, dict):
            content[key] = {name: own for name, own in value.items() if name not in columns}
    write_json(path, content, indent=1)


def _wipe(path: Path, task: int, classes: int, rows: Sequence[int]) -> None:
    """Set the experts of some classes of a 0-based task to zero; others are copied bit for bit."""
    from clclip.detection.weights import read_weights
    from clclip.training.tensors import save_tensors

    tensors, metadata = read_weights(path)
    changed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if parts[:2] == ["banks", str(task)] and parts[2] in BANK and len(value) == classes:
            changed[name] = value.clone()
            changed[name][torch.tensor(rows)] = 0
    if changed:
        save_tensors(path, tensors | changed, metadata)


def _card(
    model: ModelPlace,
    plan: Task,
    folder: Path,
    remaining: Sequence[str],
    hidden: Sequence[str],
) -> dict[str, Any]:
    """Return the card of a model with other columns, without digests of files."""
    card = dict(model.card)
    last = plan | {"hidden": list(hidden)}
    parts = []
    for old in card["parts"]:
        own = part(read_json(folder / old["folder"] / "task.json"), folder / old["folder"], last)
        own["data"]["counts"] = old["data"].get("counts")
        parts.append(old | own)
    card |= {"classes": list(remaining), "parts": parts}
    card["categories"] = [entry for entry in card["categories"] if entry["name"] in remaining]
    if "text" in card:
        card["text"] = texts(plan)
    return card | {"scores": _scores(card, remaining)}


def _scores(card: Mapping[str, Any], remaining: Collection[str]) -> dict[str, Any] | None:
    """Return the scores of the classes that are left; A is anew their mean."""
    if not card["scores"]:
        return None
    rows = {name: row for name, row in card["scores"]["per_class"].items() if name in remaining}
    values = [row["score"] for row in rows.values()]
    objects = [row["objects"] for row in rows.values()]
    whole = mean(values) if has_boxes(card) else weighted_mean(values, objects)
    return {
        **card["scores"],
        "per_class": rows,
        "metrics": {"P": None, "C": None, "A": whole},
    }
