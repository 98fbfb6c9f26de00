"""The store of finished tasks: equal work is done once, whichever experiment asks first.

10+10, 10+5+5 and 10+2x5 begin with the same task, and an edit may be taken back. Snakemake's own
between-workflow cache is experimental, must be asked for on the command line and hashes the shell
text of all rules above; one owner among the experiments that share a task would change with the
list of experiments and so cause reruns. So the DAG stays as plain as the files it makes, and the
stage itself looks here first: ``resources/tasks/{digest}/``, under the digest of everything that
decides its output - its task's training slice, the contents of the files it reads, and the
fingerprint of the code. A lock per entry makes the second of two simultaneous equal jobs wait and
copy. Deleting the folder is always safe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clclip.core.artifacts import Task
from clclip.core.digest import digest, file_sha256
from clclip.core.errors import InputError
from clclip.core.files import make_folder, read_json, replacing, write_json
from clclip.core.task import read_task, task_folders
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


def work_digest(task_file: Path, stage: str, code: str) -> str:
    """Return the digest of everything that decides what ``stage`` makes of a task.

    ``train`` reads the weights of the tasks before, ``predict`` this task's too. Data set, CLIP,
    text and features are named by their content in the task itself.
    """
    folders = task_folders(task_file)
    weights = folders if stage == "predict" else folders[:-1]
    files = [folder / "weights.safetensors" for folder in weights]
    files.append(task_file.parent / ("test.json" if stage == "predict" else "train.json"))
    try:
        read = [file_sha256(path) for path in files]
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError(what, error.filename, "the files of earlier stages and tasks") from None
    return digest([stage, code, training_slice(read_task(task_file)), read], 32)


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
    entry = resources / "tasks" / work_digest(task_file, stage, code)
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
