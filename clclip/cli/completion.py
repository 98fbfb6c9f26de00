"""Shell completion: scripts for bash, zsh and fish, made from the command line's own parser.

A script holds what it offers, so completing starts no Python: commands, options, their choices and
names of experiments with up to one variant. What lies in ``results/`` is looked up by the shell.

The library shtab (1.13) writes scripts for these shells too. It is not used, because its lookups of
``results/`` and of experiment names would still be functions of ours in each shell.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clclip.cli.command import commands, file_path
from clclip.config.names import known_names


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        name: with its dashes.
        text: its help.
        takes: what its value is: "" (it has none), "words", "file", "folder", "run" (a seed of
            results), or "text" (nothing to offer).
        words: the values, where they are known.
    """

    name: str
    text: str
    takes: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """One sub-command; ``takes`` and ``words`` say what stands beside its options."""

    name: str
    text: str
    options: tuple[Option, ...]
    takes: str
    words: tuple[str, ...] = ()


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the completion script of a shell: "bash", "zsh" or "fish"."""
    return SHELLS[shell](commands_of(parser))


def commands_of(parser: argparse.ArgumentParser) -> list[Command]:
    """Return what the command line offers."""
    (subs,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [_command(name, commands()[name].help, sub) for name, sub in subs.choices.items()]


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> Command:
    """Return one sub-command."""
    options: list[Option] = []
    takes, words = "text", tuple[str, ...]()
    for action in parser._actions:
        if action.option_strings:
            long = action.option_strings[-1]
            options.append(Option(long, action.help or "", _takes(action), _words(action)))
        else:
            takes, words = _takes(action), _words(action)
    return Command(name, text, tuple(options), takes, words)


def _takes(action: argparse.Action) -> str:
    """Return what an option or a positional is followed by."""
    if action.nargs == 0:
        return ""
    if action.choices is not None or action.dest == "experiment":
        return "words"
    special = {"run": "run", "a": "result", "b": "result"}
    if action.dest in special:
        return special[action.dest]
    if action.type in (Path, file_path):
        return "folder" if action.metavar == "DIR" else "file"
    return "text"


def _words(action: argparse.Action) -> tuple[str, ...]:
    """Return the known values of an option or a positional."""
    if action.choices is not None:
        return tuple(map(str, action.choices))
    experiment = action.dest == "experiment" and not action.option_strings
    return tuple(sorted(known_names())) if experiment else ()


BASH_HEAD = """\
# bash completion of clclip; in ~/.bashrc: eval "$(clclip completion bash)"
_clclip_offer() { # words that begin as $1 does; compgen -W would run what a folder's name says
    local typed=$1 word
    shift
    for word in "$@"; do
        [[ $word == "$typed"* ]] && COMPREPLY+=("$word")
    done
}
_clclip_results() {
    local found
    for found in results/*/summary.json; do
        found=${found%/summary.json}
        [ -e "$found" ] && _clclip_offer "$1" "${found#results/}"
    done
}
_clclip_runs() {
    local found
    for found in results/*/seed*; do
        [ -d "$found" ] && _clclip_offer "$1" "$found"
    done
    compopt -o filenames 2> /dev/null
}
_clclip() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options=()
    COMPREPLY=()
"""


def bash(commands: Sequence[Command]) -> str:
    """Return the script for bash (3.2 and later)."""
    names = " ".join(command.name for command in commands)
    lines = [f'    [ "$COMP_CWORD" -gt 1 ] || {{ _clclip_offer "$current" {names}; return; }}']
    lines.append('    case "${COMP_WORDS[1]} $before" in')
    for command in commands:
        places: dict[str, list[str]] = {}
        for option in filter(lambda option: option.takes, command.options):
            places.setdefault(_bash_values(option), []).append(f'"{command.name} {option.name}"')
        for values, after in places.items():
            lines.append(f"        {' | '.join(after)}) {values}; return ;;")
    lines += ["    esac", '    case "${COMP_WORDS[1]}" in']
    for command in commands:
        options = " ".join(option.name for option in command.options)
        values = _bash_values(command)
        lines.append(f"        {command.name}) options=({options})")
        lines.append(f"            [[ $current == -* ]] || {{ {values}; return; }} ;;")
    lines += ["    esac", '    _clclip_offer "$current" "${options[@]}"', "}"]
    return BASH_HEAD + "\n".join([*lines, "complete -o default -F _clclip clclip"]) + "\n"


def _bash_values(given: Option | Command) -> str:
    """Return the bash command that offers values; none leaves names of files to the shell."""
    offers = {"words": " ".join(["_clclip_offer", '"$current"', *given.words])}
    offers |= {"run": '_clclip_runs "$current"', "result": '_clclip_results "$current"'}
    return offers.get(given.takes, "true")


def zsh(commands: Sequence[Command]) -> str:
    """Return the script for zsh."""
    lines = [
        "#compdef clclip",
        '# zsh completion of clclip; in ~/.zshrc, after compinit: eval "$(clclip completion zsh)"',
        "_clclip_results() { compadd -- results/*/summary.json(N:h:t) }",
        "_clclip_runs() { compadd -- results/*/seed*(N/) }",
        "_clclip() {",
        "    local curcontext=$curcontext state line",
        "    local -a commands=(",
        *[f"        {_quoted(c.name + ':' + c.text)}" for c in commands],
        "    )",
        "    _arguments -C '1: :->command' '*:: :->rest'",
        "    case $state in",
        "        command) _describe -t commands command commands ;;",
        "        rest) case $words[1] in",
    ]
    for command in commands:
        specs = [_zsh_option(option) for option in command.options]
        specs.append(_quoted(f"*:{command.takes}:{_zsh_values(command)}"))
        lines.append(f"            {command.name}) _arguments {' '.join(specs)} ;;")
    lines += ["        esac ;;", "    esac", "}"]
    lines.append("if [[ $funcstack[1] == _clclip ]]; then _clclip; else compdef _clclip clclip; fi")
    return "\n".join(lines) + "\n"


def _zsh_option(option: Option) -> str:
    """Return an option in the words of _arguments."""
    text = option.text.replace("[", "(").replace("]", ")").replace(":", ",")
    value = f":{option.takes}:{_zsh_values(option)}" if option.takes else ""
    return _quoted(f"{option.name}[{text}]{value}")


def _zsh_values(given: Option | Command) -> str:
    """Return the zsh action that offers values."""
    if given.takes == "words":
        return f"({' '.join(given.words)})"
    actions = {"folder": "_files -/", "file": "_files", "run": "_clclip_runs"}
    return (actions | {"result": "_clclip_results"}).get(given.takes, " ")


def fish(commands: Sequence[Command]) -> str:
    """Return the script for fish."""
    lines = [
        "# fish completion of clclip; to ~/.config/fish/completions/clclip.fish",
        "complete -c clclip -f",
    ]
    for command in commands:
        first = f"complete -c clclip -n __fish_use_subcommand -a {command.name}"
        lines.append(f"{first} -d {_quoted(command.text)}")
        here = f"complete -c clclip -n '__fish_seen_subcommand_from {command.name}'"
        if values := _fish_values(command):
            lines.append(f"{here} {values}")
        for option in command.options:
            needs = " -r " if option.takes == "file" else " -x "
            values = f"{needs}{_fish_values(option)}".rstrip() if option.takes else ""
            name = option.name.removeprefix("--")
            lines.append(f"{here} -l {name} -d {_quoted(option.text)}{values}")
    return "\n".join(lines) + "\n"


def _fish_values(given: Option | Command) -> str:
    """Return the fish options that offer values."""
    if given.takes == "words":
        return f"-a {_quoted(' '.join(given.words))}"
    if given.takes == "run":
        return "-a '(printf \"%s\\n\" results/*/seed*)'"
    if given.takes == "result":
        return "-a '(path basename (path dirname results/*/summary.json))'"
    if given.takes == "folder":
        return "-a '(__fish_complete_directories)'"
    return "-F" if given.takes == "file" else ""


def _quoted(text: str) -> str:
    """Quote a text for a POSIX shell, and for fish, whose quotes need no more."""
    return "'" + text.replace("\\", "\\\\").replace("'", "’") + "'"


SHELLS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
