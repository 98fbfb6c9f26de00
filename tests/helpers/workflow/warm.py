"""Snakemake started by a fork of a process that has imported it: most of a dry run are imports.

The child has its own folder, environment and arguments, and imports this project's code itself, as
``python -m snakemake`` would. The process is started when it is first needed, once a test worker.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

SECONDS = 300  # a run that takes longer is ended
LOADED = (
    "pydantic",
    "snakemake.cli",
    "snakemake.persistence",
    "snakemake.scheduling.job_scheduler",
    "snakemake_executor_plugin_slurm",  # every start looks at it, and it imports pandas
)


@cache
def _server() -> subprocess.Popen[str]:
    """Return the process that forks."""
    values = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__))],
        env=values | {"OPENBLAS_NUM_THREADS": "1"},  # a fork must not lose threads
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def snakemake(
    options: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run ``snakemake OPTIONS`` in ``folder``; return what it said and its status."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as work:
        said = [str(Path(work) / name) for name in ("stdout", "stderr")]
        asked = [list(options), str(folder), dict(environment), said]
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        texts = [Path(path).read_text(encoding="utf-8") for path in said]
    return subprocess.CompletedProcess(list(options), status, *texts)


def _serve() -> None:
    """Fork for every line of the input, until it ends."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _be_snakemake(*json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)


def _be_snakemake(
    options: list[str], folder: str, environment: dict[str, str], said: list[str]
) -> None:
    """Run Snakemake in this process, as ``python -m snakemake`` would, and end it."""
    from snakemake.cli import main

    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(said, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        signal.alarm(SECONDS)
        sys.argv = ["snakemake", *options]
        sys.path[0] = folder
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        atexit._run_exitfuncs()  # the end of an interpreter, which _exit leaves out
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    warnings.simplefilter("ignore")
    _serve()
