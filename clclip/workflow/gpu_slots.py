"""Several jobs at once on one host: each takes devices that no other job of this user holds.

A scheduler such as SLURM gives every job its devices. On a workstation with N GPUs nobody does, so
``snakemake --resources gpu=N`` would start N jobs on the first one. Here a job takes the first free
slots by file locks, which end with the process whatever ends it, and sets ``CUDA_VISIBLE_DEVICES``;
this must happen before torch looks at the devices.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from clclip.core.errors import InputError

logger = logging.getLogger(__name__)

DEVICES = "CUDA_VISIBLE_DEVICES"
COUNT = "CLCLIP_SLOTS"  # jobs at once; more than devices: they share them, slot k on k mod devices
POLL_SECONDS = 1.0


def host_devices(folder: Path = Path("/dev")) -> int:
    """Return the number of NVIDIA GPUs of this host or container, without torch."""
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in folder.glob("nvidia*"))


def slot_devices() -> list[str]:
    """Return the device of every slot: [] where there is nothing to choose.

    Raises:
        InputError: if ``CLCLIP_SLOTS`` is not a number.
    """
    if "SLURM_JOB_ID" in os.environ:
        return []  # the scheduler has chosen
    given = os.environ.get(DEVICES)
    names = [str(k) for k in range(host_devices())] if given is None else given.split(",")
    wanted = os.environ.get(COUNT)
    if wanted is None:
        return names if len(names) > 1 else []
    if not re.fullmatch(r"[1-9]\d{0,3}", wanted):
        raise InputError(f"got {wanted!r}", COUNT, "a number from 1: the jobs at once on this host")
    names = names or [str(k) for k in range(int(wanted))]
    return [names[k % len(names)] for k in range(int(wanted))]


@contextlib.contextmanager
def devices(count: int = 1, folder: Path | None = None) -> Iterator[list[str]]:
    """Hold ``count`` devices; wait until so many are free.

    Args:
        count: number of different devices.
        folder: where the locks lie; default: one per user in the host's temporary folder.

    Raises:
        InputError: if the host has fewer.
    """
    slots = slot_devices()
    if not slots:
        yield []
        return
    if count > len(set(slots)):
        what = f"{count} devices, but this host offers {len(set(slots))}"
        raise InputError(what, "training.devices", "at most so many")
    folder = folder or Path(tempfile.gettempdir()) / f"clclip-slots-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = os.environ.get(DEVICES)
    with contextlib.ExitStack() as held:
        names = _take(slots, count, folder, held)
        logger.info("device %s of %d slots", ",".join(names), len(slots))
        os.environ[DEVICES] = ",".join(names)
        try:
            yield names
        finally:
            if before is None:
                del os.environ[DEVICES]
            else:
                os.environ[DEVICES] = before


def _take(slots: list[str], count: int, folder: Path, held: contextlib.ExitStack) -> list[str]:
    """Lock ``count`` slots of different devices; all of them or, for now, none."""
    logged = False
    while True:
        taken: dict[str, FileLock] = {}
        for number, name in enumerate(slots):
            if name in taken or len(taken) == count:
                continue
            lock = FileLock(folder / f"slot{number}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                taken[name] = lock
        if len(taken) == count:
            for lock in taken.values():
                held.callback(lock.release)
            return list(taken)
        for lock in taken.values():
            lock.release()
        if not logged:
            logged = True
            logger.info("waiting: all %d device slots of this host are taken", len(slots))
        time.sleep(POLL_SECONDS)
