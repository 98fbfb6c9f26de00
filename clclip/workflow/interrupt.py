"""Ctrl-C on a run: once, the running jobs end and no other starts; twice, they are stopped at once.

A terminal sends Ctrl-C to the jobs as well. They ignore it (``host.shell_prefix``), because a job
that ends half-way has to be done again, while one that is let end need not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

ONCE_SECONDS = 0.5  # a wrapper such as `uv run` may pass the terminal's signal on a second time
KILL_SECONDS = 5.0  # what SIGTERM has not ended by then is killed


def handle_interrupts(running: Callable[[], Iterable[str]]) -> None:
    """Answer Ctrl-C from now on.

    Args:
        running: returns the names of the jobs that run at the moment of asking.
    """
    first: list[float] = []

    def answer(*_: Any) -> None:
        now = time.monotonic()
        start_no_more = signal.getsignal(signal.SIGTERM)  # Snakemake's answer to `kill`
        if not callable(start_no_more):
            raise KeyboardInterrupt  # no job has been started yet
        if not first:
            first.append(now)
            _say(waiting(list(running())))
            # it takes a lock, which this thread may hold at the moment
            threading.Thread(target=start_no_more, daemon=True).start()
        elif now - first[0] > ONCE_SECONDS:
            _say("Ctrl-C again: the running jobs are stopped. The same command takes the run up.")
            stop_jobs()
            raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # not the main thread: another program uses Snakemake
        signal.signal(signal.SIGINT, answer)


def waiting(jobs: list[str]) -> str:
    """Return what the first Ctrl-C says."""
    if not jobs:
        return "Ctrl-C: no further job starts. The same command takes the run up."
    named = ", ".join(jobs[:3]) + (", ..." if jobs[3:] else "")
    count = f"{len(jobs)} running job{'s' * (len(jobs) > 1)}"
    return (
        f"Ctrl-C: waiting for {count} ({named}), no further one starts; Ctrl-C again stops at "
        "once. The same command takes the run up."
    )


def stop_jobs() -> None:
    """End all processes below this one, politely and after a few seconds by force."""
    import psutil

    below = psutil.Process().children(recursive=True)
    for process in below:
        with contextlib.suppress(psutil.Error):
            process.terminate()

    def kill() -> None:
        for process in psutil.wait_procs(below, timeout=KILL_SECONDS)[1]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    threading.Thread(target=kill, daemon=True).start()


def _say(text: str) -> None:
    """Write past the buffer of standard error: the signal may have come while it was written."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"\n{text}\n".encode())
