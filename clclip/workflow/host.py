"""What the workflow must know of the machine it runs on."""

from __future__ import annotations

import csv
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.config.load import is_path, listed_for_jobs
from clclip.config.yaml_files import PACKAGE, project_folder
from clclip.core.files import expanded
from clclip.core.homes import name_account
from clclip.core.machine import WANDB_CHECKED_VARIABLE, WANDB_VARIABLE
from clclip.core.models import as_list
from clclip.model.kinds import KINDS

STARTED_VARIABLE = "CLCLIP_RUN"  # set by `clclip run`
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
    text = f"trap '' INT; clclip() {{ {python} -m clclip \"$@\"; }}; "
    return text.replace("{", "{{").replace("}", "}}")  # Snakemake formats the prefix


def prepare_environment(conda: bool) -> None:
    """Let jobs find this package from any ``--directory`` and cache bytecode.

    Some machines switch bytecode off; torch and open_clip then take three times as long to start.

    Args:
        conda: whether jobs run in an environment of their own.
    """
    folder = _importable(conda)
    if folder is not None:
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = [str(folder), *(path for path in known if path not in ("", str(folder)))]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    name_account()


def _importable(conda: bool) -> Path | None:
    """Return the folder in which jobs look for this package; None if their Python has it installed.

    Beside an installed package lie all others of its environment, which must not hide those of
    an environment of the jobs' own: there it is a folder with nothing but a link to the package.
    """
    if project_folder() == PACKAGE.parent:
        return PACKAGE.parent
    if not conda:
        return None
    link = Path(".snakemake/package/clclip").absolute()
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists() or not link.samefile(PACKAGE):
        link.unlink(missing_ok=True)
        link.symlink_to(PACKAGE)
    return link.parent


def announce_logger(wandb: str) -> None:
    """Tell jobs where scalars go besides history.csv: off, offline or online.

    By the environment, because it is no setting of a task: a change of it must rerun nothing.
    """
    os.environ[WANDB_VARIABLE] = wandb
    os.environ[WANDB_CHECKED_VARIABLE] = "1"  # by the Snakefile, before the first job


def invoking_folders() -> list[Path]:
    """Return where relative paths of the command line start from, in the order they are tried.

    Snakemake has entered ``--directory`` by now; the shell's PWD is the folder it was typed in.
    """
    typed_in = os.environ.get("PWD")
    return [Path.cwd(), *([Path(typed_in)] if typed_in else []), project_folder()]


def config_for_jobs(config: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Return the entries of ``config`` that are relative paths, made absolute.

    A job on another host knows neither the folder nor the shell that the command was typed in.
    """
    result: dict[str, Any] = {}
    entries = as_list(config.get("experiments"))
    if isinstance(entries, list):
        result["experiments"] = [_entry_for_jobs(entry, folders) for entry in entries]
    if isinstance(config.get("data_root"), str):
        result["data_root"] = _absolute(config["data_root"], folders, Path.is_dir)
    return result


def _entry_for_jobs(entry: Any, folders: Sequence[Path]) -> Any:
    """Return an entry of ``experiments`` as a job on another host reads it."""
    if is_path(entry):
        return _absolute(entry, folders, Path.is_file)
    return listed_for_jobs(entry, folders) if isinstance(entry, Mapping) else entry


def _absolute(entry: str, folders: Sequence[Path], there: Callable[[Path], bool]) -> str:
    """Return the first of ``folders`` / ``entry`` that is there, else ``entry`` as it is."""
    tried = (Path(os.path.abspath(folder / expanded(entry))) for folder in folders)
    return next((str(path) for path in tried if there(path)), entry)


def ending(results: Path) -> str:
    """Return what a finished run says: the tables, what they say, and what to do next."""
    table, page = results / "table.txt", results / "report.html"
    shown = table.read_text(encoding="utf-8").rstrip() + "\n" if table.is_file() else ""
    if not page.is_file():
        return shown
    steps = next_steps(results)
    lead = "next:\n" if steps else ""
    return f"\n{shown}\nreport: {page.resolve()}\n{lead}" + "".join(f"  {s}\n" for s in steps)


def next_steps(results: Path) -> list[str]:
    """Return the commands that lead on from a finished run, with its own names in them."""
    try:
        with (results / "summary.csv").open(encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["A"] and not _bounds(row)]
        rows.sort(key=lambda row: -float(row["A"]))
        best = rows[0]
        same = ("kind", "dataset", "protocol", "metric", "image_rule", "fractions", "images")
        comparable = [row for row in rows if all(row.get(k) == best.get(k) for k in same)]
        seed = best["seeds"].split()[0]
    except (OSError, KeyError, ValueError, IndexError):
        return []
    start = "uv run clclip" if "UV" in os.environ else "clclip"
    place = Path(os.path.relpath(results.resolve(), os.environ.get("PWD") or None))
    place = results.resolve() if ".." in place.parts else place
    use, out = KINDS[best["kind"]].tool
    run = shlex.quote(str(place / best["experiment"] / f"seed{seed}"))
    steps = {f"{start} {use} --run {run} IMAGE... --out {out}": "try it on your images"}
    if comparable[1:]:
        ours = [shlex.quote(str(place / row["experiment"])) for row in comparable[:2]]
        steps = {f"{start} compare {' '.join(ours)}": "is the difference real?"} | steps
    if all(len(row["seeds"].split()) == 1 for row in rows):
        seeds = "--seeds 0,1,2" if STARTED_VARIABLE in os.environ else "--config seeds=0,1,2"
        steps[f"the same command with {seeds}"] = "the spread over seeds"
    wide = max(map(len, steps))
    return [f"{step:<{wide}}  # {why}" for step, why in steps.items()]


def _bounds(row: Mapping[str, str]) -> bool:
    """Tell whether a row of summary.csv is an upper bound, no method to go on with."""
    method = KINDS[row["kind"]].methods.get(row["method"])
    return method is not None and method.role == "upper bound"
