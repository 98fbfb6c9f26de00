"""``clclip merge``: two models on one tower become one with the classes of both.

Their parts stand side by side. Neither half's files lose a bit of what they hold: the first model's
are copied as they are, the second's tensors are named by their new places, and its gate lies in a
file of its own. So each half detects what it detected alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from clclip.core.artifacts import Task
from clclip.core.digest import canonical
from clclip.core.errors import InputError, nearest
from clclip.core.files import read_json, write_json, write_text
from clclip.core.names import canonical_name, name_fault
from clclip.core.task import has_boxes, text_names
from clclip.model.card import CALIBRATION, GATE, hidden_columns
from clclip.model.change.drop import hidden_names
from clclip.model.change.texts import write_texts
from clclip.model.describe import free_ids, part, texts
from clclip.model.export import copy_part, copy_tower, finish
from clclip.model.folder import check_apart, new_folder
from clclip.model.place import ModelPlace, open_place
from clclip.model.switches import difference
from clclip.model.use.words import named


def merge(
    first: Path, second: Path, out: Path, rename: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write a model with the classes of two.

    Args:
        first: a model folder; a task that is learned after the merge starts from its path.
        second: another.
        out: the new model folder.
        rename: class of the second model -> its name in the new one, which is taken in its
            canonical spelling; its text stays.

    Returns:
        the card.

    Raises:
        InputError: if they are not two of CL-CLIP with a path per task on the same tower, canvas
            and templates, a class is in both, or a new name cannot be one.
    """
    one, other = open_place(first), open_place(second)
    check_apart(out, first, second)
    check_fit(one, other)
    names = _names(one, other, dict(rename or {}))
    with new_folder(out) as folder:
        for source in one.folders:
            copy_part(source, folder / source.name)
        plan = one.plan
        for source in other.folders:
            plan = _moved(source, folder, one.plan, names)
        write_texts([one, other], plan, folder)
        if (first / "clip").is_dir() or (second / "clip").is_dir():
            copy_tower(one if (first / "clip").is_dir() else other, folder)
        return finish(folder, _card(one, other, plan, folder, names), out.name)


def check_fit(one: ModelPlace, other: ModelPlace) -> None:
    """Refuse two models that cannot stand side by side, naming what differs.

    Raises:
        InputError: for the first difference.
    """
    for model in (one, other):
        plan = model.plan
        if not has_boxes(plan):
            expected = "two detectors: classifiers share their probability among all classes"
            raise InputError("a classification model", model.place, expected)
        if plan["switches"].get("shared") != "adapters":  # an option of CL-CLIP alone
            how = f"{plan['method']}, shared: {plan['switches'].get('shared', 'one network')}"
            expected = "CL-CLIP with a path per task (shared: adapters)"
            raise InputError(f"a model of {how}", model.place, expected)
    where = f"{other.place}: card.json"
    theirs, ours = other.card["clip"], one.card["clip"]
    if theirs["sha256"] != ours["sha256"]:
        raise InputError(f"the tower {theirs['id']}", where, f"{ours['id']}, as {one.place}")
    for key in ("canvas", "dense", "taps"):
        actual, wanted = (m.card["preprocessing"][key] for m in (other, one))
        if actual != wanted:
            raise InputError(f"{key} {actual}", where, f"{wanted}, as {one.place}")
    for key in ("templates", "background"):
        if other.card["text"][key] != one.card["text"][key]:
            raise InputError(f"other {key} of texts", where, f"those of {one.place}")
    if (other_one := difference(one.plan, other.plan)) is not None:
        key, wanted, actual = other_one
        raise InputError(f"switch {key}: {actual}", where, f"{wanted}, as {one.place}")


def _names(one: ModelPlace, other: ModelPlace, rename: dict[str, str]) -> dict[str, str]:
    """Return column of the second model -> its name in the merged one.

    Raises:
        InputError: if a class would stand for two things, or a new name cannot be one.
    """
    renamed = {}
    for old, new in rename.items():
        name = named(old, other.card["classes"])
        if name is None:
            what = f"class {old!r}{nearest(old, other.card['classes'])}"
            expected = f"a class of {other.place}: {', '.join(other.card['classes'])}"
            raise InputError(what, "--rename", expected)
        if problem := name_fault(new):
            what = f"a new name {new!r} {problem}"
            raise InputError(what, "--rename", "old=new, printable text in one line")
        renamed[name] = canonical_name(new)
    ours = [name for group in one.plan["groups"] for name in group]
    theirs = [name for group in other.plan["groups"] for name in group]
    hidden = set(hidden_columns(other.card))
    result = {name: renamed.get(name, name) for name in theirs}
    taken = {canonical_name(name) for name in ours}
    for name in theirs:
        spelling = canonical_name(result[name])
        if name in hidden and spelling in taken:
            plain = other.plan["text"].get(name, name)
            result[name] = hidden_names([plain], taken | set(result.values()))[plain]
        elif spelling in taken:
            expected = f"--rename {result[name]!r}=OTHER, or the class dropped from one of them"
            what = f"class {result[name]!r} in both models"
            raise InputError(what, f"{one.place} and {other.place}", expected)
        taken.add(canonical_name(result[name]))
    return result


def _moved(source: Path, folder: Path, before: Task, names: Mapping[str, str]) -> Task:
    """Write a part of the second model behind those of the first; return its task file."""
    from clclip.detection.weights import read_weights
    from clclip.model.use.merged import moved_tensors
    from clclip.training.tensors import save_tensors

    plan, by = read_json(source / "task.json"), len(before["groups"])
    texts = dict(zip((n for g in plan["groups"] for n in g), text_names(plan), strict=True))
    target = folder / f"task{plan['task'] + by}"
    copy_part(source, target)
    origins = plan.get("origins") or [1] * len(plan["groups"])
    hidden = [*before.get("hidden", ()), *(names[n] for n in plan.get("hidden", ()))]
    plan |= {
        "task": plan["task"] + by,
        "groups": [*before["groups"], *([names[n] for n in g] for g in plan["groups"])],
        "text": {
            **before["text"],
            **{names[n]: text for n, text in texts.items() if names[n] != text},
        },
        "origins": [*(before.get("origins") or [1] * by), *(o + by for o in origins)],
        **({"hidden": hidden} if hidden else {}),
    }
    write_text(target / "task.json", canonical(plan) + "\n")
    tensors, metadata = read_weights(source / "weights.safetensors")
    gate = {name: value for name, value in tensors.items() if name.startswith("gate.")}
    rest = {name: value for name, value in tensors.items() if name not in gate}
    save_tensors(target / "weights.safetensors", moved_tensors(rest, by), metadata)
    if gate:
        save_tensors(target / GATE, gate, metadata)
    if (target / CALIBRATION).is_file():
        calibration = read_json(target / CALIBRATION)
        for key, value in calibration.items():
            if isinstance(value, dict):
                calibration[key] = {names.get(name, name): own for name, own in value.items()}
        write_json(target / CALIBRATION, calibration, indent=1)
    return cast(Task, plan)


def _card(
    one: ModelPlace,
    other: ModelPlace,
    plan: Task,
    folder: Path,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Return the card of the merged model, without digests of files."""
    parts = []
    for number in range(1, plan["task"] + 1):
        place = folder / f"task{number}"
        own = part(read_json(place / "task.json"), place, plan)
        old = (one.card["parts"] + other.card["parts"])[number - 1]
        own["data"]["counts"] = old["data"].get("counts")
        parts.append(own)
    theirs = [names[name] for name in other.card["classes"]]
    return {
        **one.card,
        "classes": [*one.card["classes"], *theirs],
        "categories": _categories(one.card["categories"], other.card["categories"], names),
        "parts": parts,
        "text": texts(plan),
        "scores": None,
        "merged_from": [one.card["digest"], other.card["digest"]],
    }


def _categories(
    ours: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the categories of both; ids of the second that the first has get new ones."""
    known = {entry["name"]: entry["id"] for entry in ours}
    new = free_ids(known, {names[entry["name"]]: entry["id"] for entry in theirs})
    return [dict(entry) for entry in ours] + [{"id": n, "name": name} for name, n in new.items()]
