"""``clclip compare``: a paired comparison of two experiments."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from clclip.cli.command import argument, command
from clclip.core.errors import InputError


@command(
    "is A better than B? a paired comparison with confidence intervals",
    "results/shapes_10_10_clclip results/shapes_10_10_fvit",
    argument("a", type=Path, metavar="A", help="results/EXPERIMENT, or only its name"),
    argument("b", type=Path, metavar="B", help="results/EXPERIMENT, or only its name"),
    argument(
        "--samples",
        type=int,
        default=1000,
        metavar="N",
        help="halves of the test images that AP is scored on",
    ),
    argument("--json", action="store_true", help="as JSON"),
)
def run(options: argparse.Namespace) -> None:
    """Compare two experiments' final scores on the same test images."""
    from clclip.evaluation.compare import as_text, compare, find_result

    if options.samples < 2:
        raise InputError(f"got {options.samples}", "--samples", "a number from 2")
    comparison = compare(find_result(options.a), find_result(options.b), samples=options.samples)
    print(
        json.dumps(asdict(comparison), indent=1) if options.json else as_text(comparison).rstrip()
    )
