"""What a training run tells while it runs: history.csv, a bar, plain lines in a log file."""

from __future__ import annotations

import csv
import io
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clclip.core.files import write_text
from clclip.training import parallel

logger = logging.getLogger(__name__)

LOG_SECONDS = 5.0


class History:
    """Rows of scalars, a progress bar and log lines of one training run.

    Args:
        label: what is trained, for the bar and the log ("task 2").
        steps: number of optimizer steps in all.
        images_per_step: the batch size, for images/s.
        rows: rows of an interrupted run that this one continues.
        listener: called with each row (wandb), or None.
    """

    def __init__(
        self,
        label: str,
        steps: int,
        images_per_step: int,
        rows: list[dict[str, Any]] | None = None,
        listener: Any = None,
    ) -> None:
        self.rows = list(rows or [])
        self.label, self.steps, self.images_per_step = label, steps, images_per_step
        self.listener = listener
        self._start = self._last_row = self._last_log = time.monotonic()
        self._first_step = self._last_step = self.rows[-1]["step"] if self.rows else 0
        self._bar = tqdm(
            total=steps,
            initial=self._first_step,
            desc=label,
            unit="step",
            disable=not sys.stderr.isatty() or parallel.rank() > 0,
            leave=False,
        )

    def advance(self, step: int) -> None:
        """Move the bar to ``step`` (1-based count of finished steps)."""
        self._bar.update(step - self._bar.n)

    def record(self, step: int, losses: dict[str, float], lr: float) -> None:
        """Append a row; log it if the last line is more than a few seconds old."""
        now = time.monotonic()
        done = max(step - self._last_step, 1)
        row = {
            "step": step,
            "loss": sum(losses.values()),
            **losses,
            "lr": lr,
            "images_per_s": done * self.images_per_step / max(now - self._last_row, 1e-9),
            "peak_mib": peak_mib(),
        }
        self.rows.append(row)
        self._last_row, self._last_step = now, step
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
        if self.listener is not None:
            self.listener(row)
        if now - self._last_log >= LOG_SECONDS or step == self.steps:
            self._last_log = now
            left = (now - self._start) / max(step - self._first_step, 1) * (self.steps - step)
            parts = " ".join(f"{name}={value:.3f}" for name, value in losses.items())
            logger.info(
                "%s step %d/%d loss=%.3f %s eta=%.0fs",
                self.label,
                step,
                self.steps,
                row["loss"],
                parts,
                left,
            )

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def write(self, path: Path) -> None:
        """Write history.csv, whole."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        write_text(path, buffer.getvalue())


def peak_mib() -> float:
    """Return the peak memory in MiB: of the device if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
