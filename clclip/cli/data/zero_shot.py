"""``clclip zero-shot``: zero-shot class of the ground-truth boxes by dense tokens."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import probe_options
from clclip.cli.command import command
from clclip.cli.measure import probe


@command(
    "zero-shot class of the ground-truth boxes by dense tokens",
    "--data resources/data/shapes20-v1",
    *probe_options("all"),
)
def run(options: argparse.Namespace) -> None:
    """Measure the zero-shot class of ground-truth boxes."""
    probe("zero_shot", options)
