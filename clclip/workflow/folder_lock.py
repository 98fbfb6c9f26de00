"""One snakemake at a time in a folder, and no lock left over from one that was killed.

Snakemake's own lock files name no process, and stay behind after ``kill -9``; its message then asks
the reader to find out and to unlock by hand. Here the running snakemake holds an operating-system
lock on ``.snakemake/clclip.json``, which dies with it, and writes into that file who it is. So a
second one can name the first, and what a dead one left is removed without asking.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import io
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError

RECORD = Path(".snakemake") / "clclip.json"
# options of snakemake with which it looks at a folder and runs nothing there
READING = (
    "unlock lint dag rulegraph filegraph d3dag summary detailed_summary list_rules"
    " list_target_rules list_changes list_input_changes list_params_changes list_untracked archive"
    " report print_compilation containerize list_conda_envs nolock"
).split()


def claim_folder(work: Path, read_only: bool = False) -> None:
    """Hold the folder until this process ends; remove the locks of one that was killed.

    Args:
        work: the working directory.
        read_only: this process runs nothing in it, so it neither claims it nor is refused.

    Raises:
        InputError: if another snakemake works in the folder, or nothing can be written there.
    """
    path = work / RECORD
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        if read_only:
            return
        raise _unwritable(error, path) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _read(handle)
        handle.close()
        if read_only or other.get("pid") == os.getpid():
            return
        who = "process {pid} on {host}, since {since}".format_map(_Known(other))
        expected = "one snakemake at a time: wait for it, stop it, or use another --directory"
        raise InputError(f"another snakemake works here ({who})", work, expected) from None
    except OSError:  # a file system without locks: Snakemake's own ones must do
        handle.close()
        return
    last = _read(handle)
    if last and not last.get("ended"):
        _remove_locks(work, last)
    if read_only:
        handle.close()
        return
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    try:
        _write(handle, mine)
    except OSError as error:
        handle.close()
        raise _unwritable(error, path) from None
    # the open handle is the claim: it lives in this closure, and in no child process
    atexit.register(_end, handle, mine)


def runs_nothing(arguments: Sequence[str]) -> bool:
    """Tell whether snakemake with these arguments only reads (or with ``--nolock``)."""
    from snakemake.cli import get_argument_parser

    with contextlib.redirect_stderr(io.StringIO()):
        try:
            options, _ = get_argument_parser().parse_known_args(list(arguments))
        except SystemExit:  # not a command line of snakemake
            return False
    return any(getattr(options, name, None) for name in READING)


def _remove_locks(work: Path, last: dict[str, Any]) -> None:
    """Remove Snakemake's lock files of a run whose process is gone, and say so.

    Not of a run on another host: some network file systems keep our lock to one host each.
    """
    locks = work / ".snakemake" / "locks"
    if not locks.is_dir() or not any(locks.iterdir()):
        return
    who = "process {pid} on {host}, since {since}".format_map(_Known(last))
    if last.get("host") != socket.gethostname():
        print(f"The last run here ({who}) did not end. If it is gone: --unlock", file=sys.stderr)
        return
    shutil.rmtree(locks, ignore_errors=True)
    print(f"The last run here ({who}) was killed: its lock is removed.", file=sys.stderr)


def _unwritable(error: OSError, path: Path) -> InputError:
    """Return what to say of a working directory that cannot be written."""
    what = f"cannot be written ({error.strerror or error})"
    return InputError(what, path, "a working directory to write in, with space (--directory DIR)")


class _Known(dict[str, Any]):
    """What is known of a process, "unknown" for the rest."""

    def __missing__(self, key: str) -> str:
        return "unknown"


def _read(handle: Any) -> dict[str, Any]:
    handle.seek(0)
    try:
        value = json.loads(handle.read())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _write(handle: Any, value: dict[str, Any]) -> None:
    handle.seek(0)
    handle.truncate()
    handle.write(json.dumps(value))
    handle.flush()


def _end(handle: Any, mine: dict[str, Any]) -> None:
    if os.getpid() == mine["pid"]:  # not in a forked child
        with contextlib.suppress(OSError):  # a full disk: the next run finds this process gone
            _write(handle, mine | {"ended": True})
            handle.close()
