"""``clclip list``: the streams, methods and variants that names are made of."""

from __future__ import annotations

import argparse

from clclip.cli.command import argument, command


@command(
    "list the streams, methods and variants that names of experiments are made of",
    "voc_10_10",
    argument(
        "word",
        nargs="?",
        default="",
        metavar="WORD",
        help="a part of a name; a whole stream or experiment tells what can follow it",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Print the names."""
    from clclip.config.listing import listing

    print(listing(options.word))
