"""``clclip unseen`` and ``open-vocabulary``: of any run, one that began with a merged model too."""

from __future__ import annotations

from pathlib import Path

from clclip.detection.tools import open_vocabulary
from clclip.model.use.merged import load_network


def measure(run: Path, resources: Path, out: Path | None = None, tasks: int | None = None) -> str:
    """Return a table of what is left of the open vocabulary (see ``open_vocabulary.measure``)."""
    return open_vocabulary.measure(run, resources, out, tasks, load_network)
