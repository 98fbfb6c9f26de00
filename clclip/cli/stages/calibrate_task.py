"""``clclip calibrate-task``: a task's scores calibrated on the images that it held out."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import TASK, TASK_STAGE
from clclip.cli.command import command


@command(
    "calibrate a task's scores on its held-out images (training.holdout)",
    f"--task {TASK}",
    *TASK_STAGE,
)
def run(options: argparse.Namespace) -> None:
    """Calibrate a task: calibration.json and holdout.json beside its task.json."""
    from clclip.config.resolve import check_settings
    from clclip.core.task import read_task
    from clclip.workflow.gpu_slots import devices

    check_settings(read_task(options.task), options.task)
    with devices(1):
        from clclip.detection.stages.calibrate import calibrate

        calibrate(options.task, options.resources)
