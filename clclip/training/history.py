"""The record of a training run: history.csv, a progress bar, plain lines in a log file."""

from __future__ import annotations

import csv
import io
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clclip.core.files import write_text
from clclip.core.machine import peak_process_mib
from clclip.training import parallel

logger = logging.getLogger(__name__)

LOG_SECONDS = 5.0
SLOW_SECONDS = 15.0  # without a line: then one is logged between two rows


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
        """Move the bar to ``step`` (1-based count of finished steps).

        Where steps take long, say because features are computed on the fly, a log line reports them
        before the next row does.
        """
        self._bar.update(step - self._bar.n)
        if time.monotonic() - self._last_log >= SLOW_SECONDS:
            self._log(step, "", self._rate(step))

    def record(self, step: int, losses: dict[str, float], lr: float) -> None:
        """Append a row; log it if the last line is more than a few seconds old."""
        row = {
            "step": step,
            "loss": sum(losses.values()),
            **losses,
            "lr": lr,
            "images_per_s": self._rate(step),
            "peak_mib": peak_mib(),
        }
        self.rows.append(row)
        self._last_row, self._last_step = time.monotonic(), step
        texts = {name: f"{value:.3f}" for name, value in losses.items()}
        self._bar.set_postfix({**texts, "images/s": f"{row['images_per_s']:.1f}"})
        if self.listener is not None:
            self.listener(row)
        if self._last_row - self._last_log >= LOG_SECONDS or step == self.steps:
            parts = " ".join(f"{name}={value}" for name, value in texts.items())
            self._log(step, f" loss={row['loss']:.3f} {parts}", row["images_per_s"])

    def _rate(self, step: int) -> float:
        """Return the images per second since the last row."""
        done = max(step - self._last_step, 1) * self.images_per_step
        return done / max(time.monotonic() - self._last_row, 1e-9)

    def _log(self, step: int, losses: str, rate: float) -> None:
        """Log where training is and how long it will take."""
        self._last_log = time.monotonic()
        left = (self._last_log - self._start) / max(step - self._first_step, 1)
        left *= self.steps - step
        values = (self.label, step, self.steps, losses, rate, left)
        logger.info("%s step %d/%d%s %.1f images/s eta=%.0fs", *values)

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
    return peak_process_mib()
