"""Finished results that the published tables rest on, and the tables drawn from them.

    python benchmarks/evidence.py add results/EXPERIMENT ...   # in the clone that ran them
    python benchmarks/evidence.py add --predicted results/EXPERIMENT ...  # by kept weights
    python benchmarks/evidence.py tables [--check]             # anywhere
    python benchmarks/evidence.py prove results/EXPERIMENT ... # in a clone whose code differs

``add`` keeps each seed's summary.json under ``benchmarks/evidence/EXPERIMENT/seedN.json`` with the
commit, the fingerprint of the training code, a digest of the resolved tasks and the data's id.
With ``--predicted`` only predictions are new: the row's commit and training code stay.
``tables`` draws what ``benchmarks/tables.yaml`` lists and says which cells are missing, which are
stale (code, settings or data are others today), and where rows of one table differ in these.
``prove`` compares results made again by today's code with those kept, number by number. Where none
differs, the two versions of a method's training code count as one (``evidence/equal.json``): a
renamed function makes no row stale, once one cell of each method was trained again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evidence_markdown import markdown
from evidence_rows import add
from evidence_tables import METRICS, read_tables, write
from evidence_today import prove

from clclip.core.errors import InputError


def main() -> int:
    """Run the command; 1 if ``--check`` finds something stale or mixed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="keep finished results")
    adding.add_argument("folders", nargs="+", type=Path, metavar="results/EXPERIMENT")
    adding.add_argument(
        "--predicted", action="store_true", help="only predictions are new, by kept weights"
    )
    commands.add_parser("prove", help="show that today's code gives kept numbers").add_argument(
        "folders", nargs="+", type=Path, metavar="results/EXPERIMENT"
    )
    tables = commands.add_parser("tables", help="draw the tables, tell what is missing or stale")
    tables.add_argument("--check", action="store_true", help="write nothing; 1 if stale or mixed")
    options = parser.parse_args()
    if options.command == "add":
        add(options.folders, options.predicted)
        return 0
    if options.command == "prove":
        prove(options.folders)
        return 0
    found = 0
    for table in read_tables():
        print(f"{table.title}\n")
        for metric in METRICS:
            print(f"{metric}\n\n{markdown(table, metric)}\n")
        notes = table.notes()
        print("\n".join(notes) or "whole and of today")
        found += sum(not note.startswith("missing") for note in notes)
        if not options.check:
            write(table)
    return int(options.check and found > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
