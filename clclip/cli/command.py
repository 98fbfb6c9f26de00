"""What a command is: its help, an example, its options and the function that runs it, in one place.

Every module of the folders in ``GROUPS`` is one command, named as the module: ``export.py`` is
``clclip export``. It defines ``run``, decorated with ``command``, and imports what it needs inside
``run``, so that ``--help`` is quick. A new command is a new module; no table names it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

Run = Callable[[argparse.Namespace], int | None]  # the exit status; None: 0

# Folders beside this file -> their headings in the help.
GROUPS = {
    "experiments": "experiments",
    "results": "results",
    "models": "trained models",
    "data": "data and CLIPs",
    "setup": "this machine",
    "stages": "stages, as the workflow calls them",
}


@dataclass(frozen=True)
class Argument:
    """One option or positional argument: what ``argparse``'s ``add_argument`` takes."""

    names: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class OneOf:
    """Options of which at most one may be given."""

    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes:
        help: what it does, in a few words that begin with a small letter.
        example: what to type after ``clclip NAME``.
        arguments: its options, in the order of its help.
        run: does it, given the parsed options; returns the exit status where it is not 0.
        passes_on: whether words after ``--`` are another program's: ``options.passed_on``.
    """

    help: str
    example: str
    arguments: tuple[Argument | OneOf, ...]
    run: Run
    passes_on: bool = False

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the options to a parser."""
        if self.passes_on:
            parser.set_defaults(passed_on=[])
        for argument in self.arguments:
            if isinstance(argument, Argument):
                parser.add_argument(*argument.names, **argument.settings)
                continue
            group = parser.add_mutually_exclusive_group()
            for choice in argument.arguments:
                group.add_argument(*choice.names, **choice.settings)


def argument(*names: str, **settings: Any) -> Argument:
    """Return an option (``--name``) or a positional argument, as ``add_argument`` takes them."""
    if settings.get("type") is Path:
        settings["type"] = file_path
    return Argument(names, settings)


def file_path(text: str) -> Path:
    """Return a path; an empty one is a variable that was not set, not the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path; expected a file or a folder")
    return Path(text)


def command(
    help: str, example: str, *arguments: Argument | OneOf, passes_on: bool = False
) -> Callable[[Run], Command]:
    """Make the decorated function the ``run`` of a command."""
    return lambda run: Command(help, example, arguments, run, passes_on)


@cache
def commands() -> dict[str, Command]:
    """Return all commands by name, in the order of the help."""
    return {name: one for group in GROUPS for name, one in of_group(group).items()}


@cache
def of_group(group: str) -> dict[str, Command]:
    """Return the commands of one folder by name, in alphabetical order."""
    files = sorted((Path(__file__).parent / group).glob("[!_]*.py"))
    return {
        path.stem.replace("_", "-"): import_module(f"{__package__}.{group}.{path.stem}").run
        for path in files
    }
