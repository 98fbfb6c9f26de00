"""``start: MODEL`` in an experiment file: the stream goes on from a trained model; torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from clclip.clip.own.settle import clip_id, settle_clip
from clclip.config.clip import ClipConfig
from clclip.config.yaml_files import merged
from clclip.core.artifacts import (
    ClipSource,
    Task,
)
from clclip.core.errors import InputError
from clclip.core.task import read_task, seen_classes, trains_all
from clclip.model.card import hidden_columns, read_card
from clclip.model.kinds import KINDS
from clclip.model.switches import difference


@dataclass(frozen=True)
class Start:
    """The model that a stream goes on from.

    Attributes:
        place: its folder.
        card: its card.json.
        plan: the task file of its last part.
    """

    place: Path
    card: dict[str, Any]
    plan: Task

    @property
    def groups(self) -> list[list[str]]:
        """The columns of its parts: their classes, dropped ones among them."""
        return [list(group) for group in self.plan["groups"]]

    @property
    def count(self) -> int:
        """How many tasks it has learned."""
        return len(self.plan["groups"])

    def mark(self, payload: Task) -> None:
        """Add to task.json what it says of the model that its stream goes on from."""
        payload["start"] = self.card["digest"]
        if hidden := hidden_columns(self.card):
            payload["hidden"] = hidden
        if origins := self.plan.get("origins"):
            payload["origins"] = [*origins, *[1] * (payload["task"] - len(origins))]

    def lend_text(self, texts: dict[str, dict[str, Any]], name: str | None) -> None:
        """Note that text vectors which the model holds are taken over from it."""
        if name is not None and "text" in self.card:
            texts[name]["start"] = str(self.place)

    def tower(self) -> Path | None:
        """Return the folder of the tower that lies in the model, None if it does not."""
        folder = self.place / "clip" / str(self.card["clip"]["id"])
        return folder if (folder / "clip.json").is_file() else None


def read_start(place: str | Path, where: object) -> Start:
    """Read what a plan needs of a model; its weights are not looked at.

    Args:
        place: the model folder.
        where: the file that names it, for messages.

    Raises:
        InputError: if there is no such model, or none that a stream can go on from.
    """
    folder = Path(place)
    if not (folder / "card.json").is_file():
        expected = "a model folder: `clclip export --run results/EXPERIMENT/seedN --out model`"
        raise InputError(f"no model in {folder}", f"{where}: start", expected)
    card = read_card(folder, check_files=False)
    plan = read_task(folder / card["parts"][-1]["folder"] / "task.json")
    if trains_all(plan):
        what = f"a model of {plan['method']}, which learned all classes at once"
        raise InputError(what, f"{where}: start", "a model that learned task by task")
    if card["memory"] == "left out":
        what = f"a model without the memory that method {plan['method']} needs"
        raise InputError(what, f"{where}: start", "one exported with --with-memory")
    return Start(folder, card, plan)


def with_model(values: dict[str, Any], where: object) -> dict[str, Any]:
    """Return an experiment's keys with those that the model was trained with beneath them.

    Args:
        values: the keys, bases merged in, ``start`` an absolute path.
        where: the file, for messages.

    Raises:
        InputError: as ``read_start``; another kind or method than the model's.
    """
    given = values.get("start")
    if given is None:
        return values
    if not isinstance(given, str):
        raise InputError(f"got {given!r:.60}", f"{where}: start", "the path of a model folder")
    start = read_start(given, where)
    plan = start.plan
    method = values.get("method")
    facts = KINDS[plan["kind"]].methods.get(str(method))
    wanted = {"kind": values.get("kind"), "method": facts.alias or method if facts else method}
    of_model = {"kind": plan["kind"], "method": plan["method"]}
    for key, value in of_model.items():
        if wanted[key] not in (None, value):
            what = f"{key} {values[key]!r} for a model of {key} {value!r}"
            raise InputError(what, f"{where}: {key}", f"{value}, or the key left out")
    clip = {k: plan["clip"][k] for k in ("model", "tag") if plan["clip"].get(k)}
    own = {"clip": clip} if start.tower() is not None or _listed(plan["clip"]) else {}
    below = {
        "kind": plan["kind"],
        "method": plan["method"],
        "seeds": [plan["seed"]],
        "training": plan["training"],
        "switches": plan["switches"],
        **own,
    }
    return merged(below, {**values, "start": str(start.place)})


def _listed(clip: ClipSource) -> bool:
    """Tell whether model and tag alone say which CLIP it is."""
    try:
        return clip_id({k: clip[k] for k in ("model", "tag") if clip.get(k)}) == clip["id"]
    except InputError:
        return False


def check_new(start: Start, groups: Sequence[Sequence[str]], where: object) -> None:
    """Refuse a class that the model knows already, under whatever column.

    Raises:
        InputError: for the first such class.
    """
    known, hidden = set(seen_classes(start.plan)), hidden_columns(start.card)
    for name in (name for group in groups for name in group):
        if name in hidden:  # of a model whose columns older versions named so
            what = f"class {name!r}, the name of a column of the model whose class was dropped"
            raise InputError(what, f"{where}: tasks", "another name for it in the data")
        if name in known:
            what = f"class {name!r}, which the model knows already"
            expected = "new classes only; `clclip drop` takes one out so that it can be taught anew"
            raise InputError(what, f"{where}: tasks", expected)


def check_same(start: Start, payload: Task, where: object) -> None:
    """Refuse a task that sees images, or is built, otherwise than the model.

    Raises:
        InputError: for another tower, canvas, tokens, or switch that trained parts read.
    """
    wanted, actual = start.plan["clip"]["id"], payload["clip"]["id"]
    if actual != wanted:
        raise InputError(f"the CLIP {actual}", f"{where}: clip", f"the model's, {wanted}")
    theirs, ours = start.plan.get("features"), payload.get("features")
    for key in ("size", "dense", "taps"):
        if theirs and ours and theirs[key] != ours[key]:
            name = {"size": "training.image_size", "dense": "switches.dense"}
            place = f"{where}: {name.get(key, 'switches.scales')}"
            raise InputError(f"{key} {ours[key]}", place, f"the model's, {theirs[key]}")
    if (other := difference(start.plan, payload, follows=True)) is not None:
        key, theirs_too, own = other
        raise InputError(
            f"switch {key}: {own}",
            f"{where}: switches.{key}",
            f"the model's, {theirs_too}: its parts read it",
        )


def clip_of(given: ClipConfig, start: Start | None, cache: Path | None, job: bool) -> ClipSource:
    """Return the CLIP: the one that lies in the model that it starts from, else as the file says.

    ``folder`` then tells ``fetch-clip`` where to copy it from.

    Args:
        given: the file's section.
        start: the model, if there is one.
        cache: folder of earlier plans' records of CLIPs.
        job: whether a job of a planned run asks.
    """
    keys = given.given()
    folder = start and start.tower()
    if start is not None and folder is not None:
        theirs = start.plan["clip"]
        if all(keys.get(key) == theirs.get(key) for key in ("model", "tag", "file", "config")):
            return cast(ClipSource, {**theirs, "folder": str(folder)})
    return settle_clip(keys, cache, job)
