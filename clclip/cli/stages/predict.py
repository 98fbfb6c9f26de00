"""``clclip predict``: a task's predictions on the test images."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import TASK, TASK_STAGE
from clclip.cli.command import command
from clclip.cli.stored import stored_stage


@command(
    "predict the test images with a task's model",
    f"--task {TASK}",
    *TASK_STAGE,
)
def run(options: argparse.Namespace) -> None:
    """Predict the test images of a task: predictions.json beside its task.json."""
    from clclip.core.task import read_task
    from clclip.model.kinds import KINDS

    kind = KINDS[read_task(options.task)["kind"]]
    stored_stage(options, "predict", list(kind.predictions))
