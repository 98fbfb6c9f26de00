"""``clclip feature-drift``: how far later tasks have moved earlier classes' features."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import ALL_TASKS
from clclip.cli.command import command
from clclip.cli.measure import measure_run


@command(
    "how far later tasks have moved the features of earlier classes' test images",
    "results/shapes_cil_seca/seed0",
    *ALL_TASKS,
)
def run(options: argparse.Namespace) -> None:
    """Measure how far each task of a classification run has moved earlier features."""
    measure_run("clclip.classification.tools.feature_drift", "classification", options)
