"""``clclip drop``: classes taken out of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import OUT_FOLDER
from clclip.cli.command import argument, command


@command(
    "take classes out of a model; the others stay as they are, bit for bit",
    '--model model --classes "mug,plate" --out model_2',
    argument("--model", type=Path, required=True, metavar="DIR", help="a model folder"),
    argument(
        "--classes",
        action="append",
        required=True,
        metavar="NAMES",
        help="the classes, separated by commas; may be repeated, as for a name that holds a comma",
    ),
    OUT_FOLDER,
)
def run(options: argparse.Namespace) -> None:
    """Write a model without some classes."""
    from clclip.model.card import read_card
    from clclip.model.folder import check_free

    check_free(options.out)
    from clclip.model.change.drop import drop
    from clclip.model.use.words import chosen_classes

    names = read_card(options.model, check_files=False)["classes"]
    card = drop(options.model, chosen_classes(options.classes, names), options.out)
    print(f"{options.out}: {len(card['classes'])} classes in {len(card['parts'])} parts")
