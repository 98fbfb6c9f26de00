"""The parser of the whole command line, and the messages about mistakes in it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from clclip.cli.command import GROUPS, commands, of_group
from clclip.core.errors import nearest


class Parser(argparse.ArgumentParser):
    """A parser whose error messages are one line, with the nearest right word."""

    def parse_known_args(  # type: ignore[override]  # argparse has overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse; what a sub-command does not know is its own mistake, not the whole line's."""
        self.typed, passed_on = list(args or []), []
        if self.get_default("passed_on") is not None and "--" in self.typed:
            at = self.typed.index("--")
            self.typed, passed_on = self.typed[:at], self.typed[at + 1 :]
            args = self.typed
        parsed, left = super().parse_known_args(args, namespace)
        if passed_on:
            parsed.passed_on = passed_on
        if left and " " in self.prog:
            self.error(f"unrecognized: {' '.join(left)}")
        return parsed, left

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        wrong = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            choices = re.findall(r"[\w.-]+", wrong[3])
            message = f"no {wrong[1].lower()} {wrong[2]!r}{nearest(wrong[2], choices)}"
        given = [word.split("=")[0] for word in self.typed if word.startswith("--")]
        known = self._option_string_actions
        for word in given:
            if not any(option.startswith(word) for option in known):
                message = f"no option {word}{nearest(word, known)}"
        expected = f"expected what `{self.prog} --help` lists"
        self.exit(2, f"error: {message}, in `{self.prog}`, {expected}\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        "clclip",
        usage="clclip COMMAND [OPTION...]",
        description=f"CLIP-based continual learning.\n\n{overview()}",
        epilog="example: clclip describe shapes_10_10_clclip; `clclip COMMAND --help` has one more",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="clclip"
    )
    for name, command in commands().items():
        sub = subparsers.add_parser(
            name,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog=f"example: clclip {name} {command.example}".replace("%", "%%"),
        )
        command.add_to(sub)
        sub.add_argument("--log", type=Path, default=None, metavar="FILE", help="log file")
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
        sub.set_defaults(parser=parser)
    return parser


def overview() -> str:
    """Return all commands by group, each with what it does."""
    width = max(map(len, commands())) + 2
    parts = []
    for group, title in GROUPS.items():
        rows = (f"  {name:{width}}{command.help}" for name, command in of_group(group).items())
        parts.append("\n".join([f"{title}:", *rows]))
    return "\n\n".join(parts)
