"""``clclip train``: train a task."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import TASK, TASK_STAGE
from clclip.cli.command import argument, command
from clclip.cli.stored import stored_stage
from clclip.core.errors import InputError


@command(
    "train a task",
    f"--task {TASK} --log train.log",
    *TASK_STAGE,
    argument(
        "--devices",
        type=int,
        default=1,
        metavar="N",
        help="processes that share every batch, a GPU each if there are any",
    ),
    argument(
        "--nodes",
        type=int,
        default=1,
        metavar="N",
        help="nodes of this SLURM job, with so many devices each",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Train a task: weights.safetensors and history.csv beside its task.json."""
    from clclip.training.tracking import check_access

    for option in ("devices", "nodes"):
        if getattr(options, option) < 1:
            raise InputError(f"got {getattr(options, option)}", f"--{option}", "a number from 1")
    check_access()
    stored_stage(options, "train", ["weights.safetensors", "history.csv"])
    _predict_ahead(options)


def _predict_ahead(options: argparse.Namespace) -> None:
    """Put the predictions of a short task into the store, where the job `predict` finds them.

    They stay that job's to write beside the task. A closed-form task needs no torch, so it has
    nothing to save; the features of its test images may not be there yet.
    """
    from clclip.core.task import read_task
    from clclip.model.kinds import KINDS

    folder, task = options.task.parent, read_task(options.task)
    kind = KINDS[task["kind"]]
    if not kind.predicts_with_training or kind.methods[task["method"]].closed_form:
        return
    if not (folder / "test.json").exists():
        return
    stored_stage(options, "predict", list(kind.predictions))
    for name in kind.predictions:
        (folder / name).unlink()
