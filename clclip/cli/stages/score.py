"""``clclip score``: the scores of a task's predictions."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import TASK, TASK_STAGE
from clclip.cli.command import command


@command(
    "score a task's predictions",
    f"--task {TASK}",
    *TASK_STAGE,
)
def run(options: argparse.Namespace) -> None:
    """Score a task's predictions: scores.json beside its task.json."""
    from clclip.evaluation.score import score
    from clclip.training.tracking import track_scores

    score(options.task)
    track_scores(options.task, options.resources)
