"""``clclip take-over``: the parts of a model as the first tasks of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import OUT_FILE
from clclip.cli.command import argument, command


@command(
    "copy the parts of a model to where a run that starts from it finds them",
    "--model model --out results/mine/seed0/start.json",
    argument("--model", type=Path, required=True, metavar="DIR", help="a model folder"),
    argument("--digest", default=None, metavar="HEX", help="refuse another model than this"),
    OUT_FILE,
)
def run(options: argparse.Namespace) -> None:
    """Copy the parts of a model beside ``--out``."""
    from clclip.model.change.start import take_over

    take_over(options.model, options.out, options.digest)
