"""Weights & Biases beside history.csv, where ``wandb: offline | online`` asks for it.

The mode reaches a job by its environment, because it is no setting of a task: switching it on must
retrain nothing. csv stays the record; an offline run does not append after a resume.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clclip.host import WANDB_VARIABLE

logger = logging.getLogger(__name__)

Listener = Callable[[dict[str, Any]], None]


class WandbRun:
    """One wandb run per task; its id follows from the task's place, so a resume continues it.

    Args:
        folder: results/EXPERIMENT/seedN/taskT.
        task: the task file, logged as the run's config.
        mode: "offline" or "online".
    """

    def __init__(self, folder: Path, task: Mapping[str, Any], mode: str) -> None:
        import wandb

        place = folder.resolve()
        experiment, seed, number = place.parts[-3:]
        identity = hashlib.sha256(f"{place}".encode()).hexdigest()[:16]
        self._run = wandb.init(
            project="clclip",
            group=experiment,
            name=f"{experiment} {seed} {number}",
            id=identity,
            resume="allow",
            mode=mode,
            dir=str(folder),
            config=dict(task),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def __call__(self, row: dict[str, Any]) -> None:
        """Log one row of the history."""
        self._run.log({k: v for k, v in row.items() if k != "step"}, step=row["step"])

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def tracker(folder: Path, task: Mapping[str, Any]) -> WandbRun | None:
    """Return the wandb run of a task, or None where it is off (the default)."""
    mode = os.environ.get(WANDB_VARIABLE, "off")
    if mode not in ("offline", "online"):
        return None
    logger.info("wandb: %s, group %s", mode, folder.resolve().parts[-3])
    return WandbRun(folder, task, mode)
