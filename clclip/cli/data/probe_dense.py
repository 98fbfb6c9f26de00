"""``clclip probe-dense``: measure the dense modes of a CLIP on labelled images."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import probe_options
from clclip.cli.command import command
from clclip.cli.measure import probe


@command(
    "measure the dense modes of a CLIP on labelled images and recommend one",
    "--data resources/data/ID --clip resources/clip/ID",
    *probe_options("50"),
)
def run(options: argparse.Namespace) -> None:
    """Measure the dense modes of a CLIP."""
    probe("probe_dense", options)
