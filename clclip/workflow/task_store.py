"""The store of finished tasks: equal work is done once, whichever experiment asks first.

10+10, 10+5+5 and 10+2x5 begin with the same task, and an edit may be taken back. Snakemake's own
between-workflow cache is experimental, must be asked for on the command line and hashes the shell
text of all rules above; one owner among the experiments that share a task would change with the
list of experiments and so cause reruns. So the DAG stays as plain as the files it makes, and the
stage itself looks here first: ``resources/tasks/{digest}/``, under the digest of everything that
decides its output - its task's training slice, the contents of the files it reads, what its images
held, and the fingerprint of the code. So what a data set holds besides decides nothing: images of
new classes, the name of its folder, how its annotations are laid out. A lock per entry makes the
second of two simultaneous equal jobs wait and copy. Deleting the folder is always safe.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from clclip.clip.ids import FEATURE_FORMAT
from clclip.core.artifacts import Task
from clclip.core.digest import digest, file_sha256
from clclip.core.errors import InputError
from clclip.core.files import make_folder, read_json, replacing, write_json
from clclip.core.task import data_dir, read_task, task_folders
from clclip.data.contents import read_contents
from clclip.model.kinds import KINDS

logger = logging.getLogger(__name__)


def training_slice(task: Task) -> dict[str, Any]:
    """Return what decides the weights of ``task``, given the weights of the tasks before it.

    The evaluation metric does not; nor do, in the first task, the options that speak of earlier
    tasks; and where a method's first task is another's by definition, it counts as that other's.
    """
    training = {key: value for key, value in task.items() if key != "evaluation"}
    methods = KINDS[task["kind"]].methods
    method = methods.get(task["method"])
    if task["task"] == 1 and method is not None:
        name = method.first_task or task["method"]
        options = methods[name].options
        known = set(options.model_fields) - options.later
        switches = {key: value for key, value in task["switches"].items() if key in known}
        training |= {"method": name, "switches": switches}
    return training


def trained_switches(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's switches; those that its training does not read have their defaults."""
    method = KINDS[task["kind"]].methods.get(task["method"])
    if method is None:  # of a task file made by hand
        return task["switches"]
    idle = method.unread_in_training(task["switches"])
    fields, optional = method.options.model_fields, method.options.optional
    return {
        key: json.loads(json.dumps(fields[key].default)) if key in idle else value
        for key, value in task["switches"].items()
        if not (key in idle and key in optional)  # which other tasks do not name
    }


def work_digest(task_file: Path, resources: Path, stage: str, code: str) -> str:
    """Return the digest of everything that decides what ``stage`` makes of a task.

    ``train`` reads the weights of the tasks before, ``predict`` this task's too. CLIP and text are
    named by their content in the task itself. So are data set and features, where it is not known
    what the images held.
    """
    task = training_slice(read_task(task_file))
    if stage == "train":
        task["switches"] = trained_switches(task)
    folders = task_folders(task_file)
    weights = folders if stage == "predict" else folders[:-1]
    files = [folder / "weights.safetensors" for folder in weights]
    own = "test.json" if stage == "predict" else "train.json"
    files.append(task_file.parent / own)
    try:
        read = [file_sha256(path) for path in files]
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError(what, error.filename, "the files of earlier stages and tasks") from None
    # a method with a memory may read the images of earlier tasks too
    splits = [folder / own for folder in (folders if stage == "train" else folders[-1:])]
    images = _images(task, resources, splits)
    if images is None:
        return digest([stage, code, task, read], 32)
    if stage == "train":
        # where it is damaged, the stage itself says so
        with contextlib.suppress(KeyError, TypeError):
            read[-1] = digest(_renumbered(read_json(splits[-1]), task), 64)
    return digest([stage, code, _of_any_data(task), read, images], 32)


def _images(task: Mapping[str, Any], resources: Path, splits: Sequence[Path]) -> list[Any] | None:
    """Return [file name, digest of its bytes] of the images of split files, a list for each.

    None in place of an earlier task's list: it has no split file here, as it was taken over with a
    model. None for all: what some image held is not known.
    """
    contents = read_contents(data_dir(cast(Task, task), resources))
    if contents is None:
        return None
    result: list[Any] = []
    try:
        known = contents["test" if splits[-1].name == "test.json" else "train"]
        for split in splits:
            if split != splits[-1] and not split.exists():
                result.append(None)
                continue
            names = [image["file_name"] for image in read_json(split)["images"]]
            result.append([[name, known[name]] for name in names])
    except (InputError, KeyError, TypeError):  # the stage itself says what is wrong
        return None
    return result


def _of_any_data(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task that names neither its data set nor the stores made of it.

    How features are computed stays: CLIP, size, dense mode, taps and flip stand beside their id.
    """
    result: dict[str, Any] = {**task, "data": {**task["data"], "id": ""}}
    if "features" in task:
        result["features"] = {**task["features"], "id": FEATURE_FORMAT}
    return result


def _renumbered(split: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training split with places for the numbers that training does not read.

    A class more, or an annotation tool's next export, may shift these.
    """
    method = KINDS[task["kind"]].methods.get(task["method"])
    read = {"images", "boxes"} if method is None else method.numbers
    result = dict(split)
    if "images" not in read:
        result["images"] = [{**image, "id": n} for n, image in enumerate(split["images"])]
    if "annotations" in split and "boxes" not in read:
        names = {category["id"]: category["name"] for category in split["categories"]}
        result["annotations"] = [
            {**box, "id": n, "category_id": names[box["category_id"]]}
            for n, box in enumerate(split["annotations"])
        ]
        result["categories"] = list(names.values())
    return result


def stored(
    task_file: Path,
    resources: Path,
    stage: str,
    code: str,
    names: Sequence[str],
    work: Callable[[], None],
) -> bool:
    """Make the files ``names`` beside ``task_file``: from the store or else by ``work``.

    Returns:
        Whether the files came from the store.
    """
    entry = resources / "tasks" / work_digest(task_file, resources, stage, code)
    make_folder(entry)
    with _alone(entry, stage):
        if _fetch(entry, task_file.parent, names):
            logger.info("%s: taken from %s, made before from the same inputs", stage, entry)
            return True
        work()
        _publish(entry, task_file.parent, names)
        return False


@contextlib.contextmanager
def _alone(entry: Path, stage: str) -> Iterator[None]:
    """Hold an entry's lock; say so if another process is at the same work, e.g. an orphaned job."""
    from filelock import FileLock, Timeout

    lock = FileLock(entry / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("%s: waiting for another process that makes the same", stage)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(entry: Path, folder: Path, names: Sequence[str]) -> bool:
    """Copy an entry's files into ``folder`` if all are there and whole."""
    try:
        digests = read_json(entry / "files.json")
        if any(digests[name] != file_sha256(entry / name) for name in names):
            logger.warning("%s is damaged and not used", entry)
            return False
    except (ValueError, KeyError, TypeError, OSError):
        return False
    for name in names:
        with replacing(folder / name) as temporary:
            shutil.copyfile(entry / name, temporary)
    return True


def _publish(entry: Path, folder: Path, names: Sequence[str]) -> None:
    """Put the files of ``folder`` into the store, as hard links where possible: no space lost."""
    (entry / "files.json").unlink(missing_ok=True)
    for name in names:
        (entry / name).unlink(missing_ok=True)
        try:
            os.link(folder / name, entry / name)
        except OSError:
            shutil.copyfile(folder / name, entry / name)
    write_json(entry / "files.json", {name: file_sha256(entry / name) for name in names})
