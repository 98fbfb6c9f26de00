"""``clclip completion``: the script that completes words in a shell."""

from __future__ import annotations

import argparse

from clclip.cli.command import argument, command


@command(
    "print the script that completes words of clclip in a shell",
    'bash > clclip.bash && source clclip.bash   (for good: eval "$(clclip completion bash)")',
    argument("shell", choices=("bash", "zsh", "fish"), help="which shell"),
)
def run(options: argparse.Namespace) -> None:
    """Print a shell's completion script."""
    from clclip.cli.completion import script

    print(script(options.shell, options.parser), end="")
