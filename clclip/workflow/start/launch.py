"""``clclip run``: the workflow that ships with the package, started in any folder.

It is Snakemake's own command line with the Snakefile and the profile filled in by their full
paths, because Snakemake looks for a profile beside the Snakefile and in the working directory only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clclip.config.run import read_seeds
from clclip.config.yaml_files import project_folder
from clclip.core.errors import InputError
from clclip.core.files import check_writable
from clclip.workflow.host import STARTED_VARIABLE

# options that say how many jobs run at once, or that none does
NUMBERED = ("--cores", "-c", "--jobs", "-j", "--local-cores")
UNNUMBERED = ("--list", "-l", "--lint", "--unlock", "--report", "--version", "-v", "--help", "-h")


def command(
    experiments: Sequence[str] = (),
    options: Sequence[str] = (),
    *,
    smoke: bool = False,
    seeds: str | None = None,
    data_root: str | None = None,
) -> list[str]:
    """Return the command line that runs the workflow.

    Args:
        experiments: names and files; none of them means the run that ships with the package.
        options: Snakemake's own, which come last and win.
        smoke: the one-minute run.
        seeds: replaces every experiment's seeds, e.g. "0,1,2".
        data_root: folder that relative data roots start from.

    Raises:
        InputError: if both the one-minute run and experiments are asked for, or seeds are none.
    """
    if seeds is not None:
        read_seeds(seeds)
    if smoke and experiments:
        raise InputError(f"got {experiments[0]!r}", "--smoke", "it alone, or experiments alone")
    project = project_folder()
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(project / "workflow/Snakefile")]
    if not _given(options, ("--workflow-profile",)):
        line += ["--workflow-profile", str(project / "profiles" / "default")]
    if not _given(options, (*NUMBERED, *UNNUMBERED, "--workflow-profile", "--executor", "-e")):
        line += ["--cores", "all"]
    if smoke:
        # by "=": after a space the option would take a target that follows as one more file
        line += [f"--configfile={project / 'config' / 'smoke.yaml'}"]
    config = [f"experiments={json.dumps(list(experiments))}"] if experiments else []
    config += [f"seeds={seeds}"] if seeds is not None else []
    config += [f"data_root={json.dumps(data_root)}"] if data_root is not None else []
    return [*line, *_with_config(options, config)]


def check_options(options: Sequence[str]) -> None:
    """Refuse options that Snakemake does not take: it would print its whole usage before one line.

    Args:
        options: Snakemake's, as they were typed.

    Raises:
        InputError: for an unknown option, or one whose value is wrong or missing.
    """
    if not options or {"-h", "--help", "-v", "--version"} & set(options):
        return
    from snakemake.cli import get_argument_parser

    def refuse(message: str) -> None:
        where = "the options after `--`"
        raise InputError(message, where, "options of snakemake (`clclip run -- --help`)")

    parser = get_argument_parser()
    parser.error = refuse
    try:
        parser.parse_args(list(options))
    except InputError:
        raise
    except Exception as error:  # an option that reads its own value raises whatever it likes
        refuse(f"snakemake refuses them ({error})")


def run(line: Sequence[str], folder: Path) -> None:
    """Become the command: signals reach Snakemake itself, and its exit status is ours.

    Raises:
        InputError: if the folder, in which results are to lie, cannot be written.
    """
    check_writable(folder, folder=True)
    os.environ[STARTED_VARIABLE] = "1"
    sys.stdout.flush()
    os.execv(line[0], list(line))


def _given(options: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether one of some options is among Snakemake's, as ``-c2`` and ``--cores=2`` too."""
    short = tuple(name for name in names if not name.startswith("--"))
    return any(
        option.split("=")[0] in names
        or (option.startswith(short) and not option.startswith("--") if short else False)
        for option in options
    )


def _with_config(options: Sequence[str], config: Sequence[str]) -> list[str]:
    """Return the options with entries of ``--config`` put in: of two, Snakemake reads the last."""
    result = list(options)
    for name in ("--config", "-C"):
        if config and name in result:
            at = result.index(name) + 1
            return [*result[:at], *config, *result[at:]]
    return [*result, *(["--config", *config] if config else [])]
