"""``clclip merge``: one model of two."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import OUT_FOLDER
from clclip.cli.command import argument, command
from clclip.core.errors import InputError


@command(
    "make one model of two on the same tower; each half stays as it is, bit for bit",
    'cars signs --out both --rename "person=pedestrian"',
    argument("first", type=Path, metavar="MODEL", help="a model folder; later tasks start from it"),
    argument("second", type=Path, metavar="OTHER", help="another"),
    argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="call a class of the second model otherwise; may be repeated",
    ),
    OUT_FOLDER,
)
def run(options: argparse.Namespace) -> None:
    """Write a model with the classes of two."""
    from clclip.model.folder import check_free

    check_free(options.out)
    pairs = [text.partition("=") for text in options.rename]
    for old, sign, new in pairs:
        if not sign or not old or not new:
            raise InputError(f"got {old + sign + new!r}", "--rename", "old=new")
    from clclip.model.place import check_place

    check_place(options.first)
    check_place(options.second)
    from clclip.model.change.merge import merge

    card = merge(options.first, options.second, options.out, {old: new for old, _, new in pairs})
    print(f"{options.out}: {len(card['classes'])} classes in {len(card['parts'])} parts")
