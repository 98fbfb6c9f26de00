"""``clclip schema``: the JSON schema of the config files."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.command import argument, command
from clclip.core.files import write_text


@command(
    "print the JSON schema of the config files",
    "--out config/schema.json",
    argument("--out", type=Path, default=None, metavar="FILE", help="default: the screen"),
)
def run(options: argparse.Namespace) -> None:
    """Print or write the schema."""
    from clclip.config.schema import schema_text

    if options.out is not None:
        return write_text(options.out, schema_text())
    print(schema_text(), end="")
