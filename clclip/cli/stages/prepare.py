"""``clclip prepare``: generate or verify and index a data set."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import OUT_FOLDER, from_json
from clclip.cli.command import argument, command
from clclip.core.errors import InputError


@command(
    "generate or verify and index a data set",
    """--spec '{"format":"shapes","id":"shapes20-v1","world":"shapes20"}' --out DIR""",
    argument("--spec", required=True, help="the data set as JSON: `spec` of `describe --json`"),
    argument(
        "--classes",
        metavar="JSON",
        help="the classes of the tasks as a JSON list; of labelled folders, a broken image of any "
        "other class is a remark (default: all classes)",
    ),
    OUT_FOLDER,
)
def run(options: argparse.Namespace) -> None:
    """Prepare the data set."""
    from clclip.data.prepare import prepare

    spec = from_json(options.spec, "--spec", dict)
    named = None if options.classes is None else from_json(options.classes, "--classes", list)
    if named is not None and not all(isinstance(name, str) for name in named):
        raise InputError("a class that is no text", "--classes", 'names, e.g. \'["cat", "dog"]\'')
    prepare(spec, options.out, named)
