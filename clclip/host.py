"""What the workflow must know of the machine it runs on."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.files import expanded
from clclip.validation import as_list

WANDB_VARIABLE = "CLCLIP_WANDB"
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def has_accelerator() -> bool:
    """Tell whether this host has a GPU, by its device files: asking torch takes seconds."""
    return any(Path(device).exists() for device in GPU_DEVICES)


def shell_prefix(conda: bool) -> str:
    """Return the shell text that defines ``clclip`` for jobs: this interpreter, whatever PATH says.

    Args:
        conda: whether jobs run in an environment of their own, whose ``python`` the shell finds.
    """
    python = "python" if conda else shlex.quote(sys.executable)
    text = f'clclip() {{ {python} -m clclip.cli "$@"; }}; '
    return text.replace("{", "{{").replace("}", "}}")  # Snakemake formats the prefix


def prepare_environment(project: str) -> None:
    """Let jobs find this checkout from any ``--directory`` and cache bytecode.

    Some machines switch bytecode off; torch and open_clip then take three times as long to start.
    """
    paths = [project, os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def announce_logger(wandb: str) -> None:
    """Tell jobs where scalars go besides history.csv: off, offline or online.

    By the environment, because it is no setting of a task: a change of it must rerun nothing.
    """
    os.environ[WANDB_VARIABLE] = wandb


def invoking_folders(project: str) -> list[Path]:
    """Return where relative paths of the command line start from, in the order they are tried.

    Snakemake has entered ``--directory`` by now; the shell's PWD is the folder it was typed in.
    """
    typed_in = os.environ.get("PWD")
    return [Path.cwd(), *([Path(typed_in)] if typed_in else []), Path(project)]


def config_for_jobs(config: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Return the entries of ``config`` that are relative paths, made absolute.

    A job on another host knows neither the folder nor the shell that the command was typed in.
    """
    found: dict[str, Any] = {}
    entries = as_list(config.get("experiments"))
    if isinstance(entries, list):
        found["experiments"] = [
            _absolute(entry, folders, Path.is_file) if is_path(entry) else entry
            for entry in entries
        ]
    if isinstance(config.get("data_root"), str):
        found["data_root"] = _absolute(config["data_root"], folders, Path.is_dir)
    return found


def is_path(entry: object) -> bool:
    """Tell whether an entry of ``experiments`` is a path, as opposed to a shipped name."""
    return isinstance(entry, str) and (entry.endswith((".yaml", ".yml")) or os.sep in entry)


def _absolute(entry: str, folders: Sequence[Path], there: Callable[[Path], bool]) -> str:
    """Return the first of ``folders`` / ``entry`` that is there, else ``entry`` as it is."""
    tried = (Path(os.path.abspath(folder / expanded(entry))) for folder in folders)
    return next((str(path) for path in tried if there(path)), entry)


def ending(results: Path) -> str:
    """Return what a finished run says: the results table and where the report lies."""
    table, page = results / "table.txt", results / "report.html"
    shown = table.read_text(encoding="utf-8").rstrip() + "\n" if table.is_file() else ""
    return f"\n{shown}report: {page.resolve()}\n" if page.is_file() else shown
