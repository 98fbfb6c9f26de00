"""``clclip unseen``: what a seed's detectors know of classes before they are trained."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import OUT_FILE, RESOURCES, RUN
from clclip.cli.command import argument, command


@command(
    "AP of the classes of later tasks after each task, by the frozen CLIP in the model's boxes",
    f"--run {RUN} --out {RUN}/unseen.json",
    argument("--run", type=Path, required=True, metavar="DIR", help="results/NAME/seed0"),
    argument("--tasks", type=int, default=None, metavar="T", help="default: all trained"),
    OUT_FILE,
    RESOURCES,
)
def run(options: argparse.Namespace) -> None:
    """Measure the classes not yet trained."""
    from clclip.workflow.gpu_slots import devices

    with devices(1):
        from clclip.model.unseen import measure

        measure(options.run, options.resources, options.out, options.tasks)
