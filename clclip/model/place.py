"""Where a model lies: a model folder or a run's seed folder, with its texts and its tower."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clclip.clip.fetch import fetch_clip
from clclip.clip.ids import EMBEDDED
from clclip.core import homes
from clclip.core.artifacts import ClipSource, Task, read_clip
from clclip.core.errors import InputError
from clclip.core.task import clip_dir, find_task, read_task, resources_of, task_folders
from clclip.model.card import EXPECTED, is_model, read_card
from clclip.model.describe import describe_run
from clclip.model.kinds import KINDS


@dataclass(frozen=True)
class ModelPlace:
    """A trained model on disk.

    Attributes:
        place: the folder that was given.
        task_file: task.json of its last part; those of the others lie in its siblings.
        plan: that task file.
        texts: folder that holds ``text/``.
        towers: folder that holds ``clip/{id}``; None: there is none.
        card: card.json, or what it would say of a run.
    """

    place: Path
    task_file: Path
    plan: Task
    texts: Path
    towers: Path | None
    card: dict[str, Any]

    @property
    def folders(self) -> list[Path]:
        """The folders of all parts, in order."""
        return task_folders(self.task_file)


def open_place(place: Path, task: int | None = None, resources: Path | None = None) -> ModelPlace:
    """Find a model's files.

    Args:
        place: a model folder, or ``results/EXPERIMENT/seedN``.
        task: the model after this task (a run's only); None: after the last.
        resources: folder of the tower; None: where the model's own lies.

    Raises:
        InputError: if there is no model, or its files are damaged.
    """
    card = read_card(place) if is_model(place) else None
    task_file = _task_file(place, task)
    plan = read_task(task_file)
    if card is not None:
        return ModelPlace(place, task_file, plan, place, _towers(place, plan, resources), card)
    beside = resources_of(place) if resources is None else resources
    files = [folder / "task.json" for folder in task_folders(task_file)]
    return ModelPlace(
        place, task_file, plan, beside, beside, describe_run(files, beside, memory="included")
    )


def check_place(place: Path, task: int | None = None, kind: str | None = None) -> None:
    """Refuse what holds no model of a kind; no weights are read, and torch is not needed.

    A command asks before it imports torch, which takes seconds and on a busy machine a minute.

    Args:
        place: as ``open_place`` takes it.
        task: likewise.
        kind: "detection" or "classification"; None: either.

    Raises:
        InputError: if there is no model, or it is of the other kind.
    """
    check_kind(read_task(_task_file(place, task)), place, kind)


def check_kind(plan: Task, place: Path, kind: str | None) -> None:
    """Refuse a model of another kind than ``kind``; None: either is right.

    Raises:
        InputError: if it is of the other kind.
    """
    if kind is not None and plan["kind"] != kind:
        use, _ = KINDS[plan["kind"]].tool
        what = f"a {plan['kind']} model"
        raise InputError(what, place, f"a {kind} model or run (use `clclip {use}`)")


def _task_file(place: Path, task: int | None) -> Path:
    """Return the task.json of a model's last part, or of a run's task."""
    if not place.is_dir():
        what = "a file" if place.exists() else "no such folder"
        expected = f"{EXPECTED}, or results/EXPERIMENT/seedN of a run"
        raise InputError(what, place, expected)
    if is_model(place):
        if task is not None:
            raise InputError(f"task {task}", "--task", "a run; a model folder is one model")
        part = read_card(place, check_files=False)["parts"][-1]
        return place / str(part["folder"]) / "task.json"
    if not any(place.glob("task*/task.json")):
        expected = f"{EXPECTED} (card.json), or results/EXPERIMENT/seedN of a run"
        raise InputError("neither a model nor a run", place, expected)
    return find_task(place, task)


def _towers(place: Path, plan: Task, resources: Path | None) -> Path | None:
    """Return the folder whose ``clip/{id}`` is there: the one given, the model's, the run's."""
    choices = [resources] if resources is not None else [place, Path("resources")]
    there = (home for home in choices if (clip_dir(plan, home) / "clip.json").is_file())
    return next(there, resources)


@contextlib.contextmanager
def tower_home(model: ModelPlace) -> Iterator[Path]:
    """Yield the folder that holds the model's tower as ``clip/{id}``, made now if it must be.

    What ships with the package is put into a temporary folder, what a tag names is downloaded into
    the user's cache.

    Raises:
        InputError: if the tower is nowhere to be had, or is another one.
    """
    with contextlib.ExitStack() as stack:
        home = model.towers
        if home is None:
            name, tag = model.plan["clip"]["model"], model.plan["clip"].get("tag")
            if name in EMBEDDED:
                home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            elif tag is not None and not model.plan["clip"]["id"].rpartition("-")[2] == "file":
                home = homes.writable(homes.cache_home(), "towers") / "clclip"
            if home is None or not _made(model.plan["clip"], clip_dir(model.plan, home)):
                expected = f"--resources DIR with clip/{model.plan['clip']['id']}, or a model "
                expected += "exported with --with-tower"
                raise InputError(f"no tower {name}", model.place, expected)
        _check_tower(model, home)
        yield home


def _made(clip: ClipSource, folder: Path) -> bool:
    """Put a listed tower in place; tell whether it is the one that is asked for."""
    if (folder / "clip.json").is_file():
        return True
    given = {key: clip[key] for key in ("model", "tag") if clip.get(key)}
    from clclip.clip.own.settle import clip_id

    if clip_id(given) != clip["id"]:
        return False
    fetch_clip(given, folder)
    return True


def _check_tower(model: ModelPlace, home: Path) -> None:
    """Refuse another tower than the one that the model was trained on."""
    folder = clip_dir(model.plan, home)
    actual = read_clip(folder)["sha256"]
    if actual != model.card["clip"]["sha256"]:
        what = f"another tower ({actual[:8]}) than the model's ({model.card['clip']['sha256'][:8]})"
        raise InputError(what, folder, "the tower that the model was trained on")
