"""What checking the data left out on request (``on_bad_image``, ``on_bad_box``): no silent gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.report.settings import Experiment

LISTED = 200  # lines per data set; the whole list stays in its index.json


@dataclass(frozen=True)
class LeftOut:
    """One data set's gaps: counts and a list of what, where and why."""

    data: str
    images: int
    boxes: int
    clipped: int
    entries: list[dict[str, Any]]

    @property
    def more(self) -> int:
        """Number of entries that are not listed."""
        return max(0, self.images + self.boxes - LISTED)


def left_out(experiments: Sequence[Experiment], resources: Path) -> list[LeftOut]:
    """Return the gaps of every data set of the experiments, those without any left away."""
    found = []
    for name in sorted({_data_id(experiment) for experiment in experiments} - {None}):
        path = resources / "data" / str(name) / "index.json"
        try:
            index = read_json(path)
            entries = index.get("skipped", [])
            images = sum(entry["kind"] == "image" for entry in entries)
            clipped = index.get("counts", {}).get("clipped_boxes", 0)
        except (InputError, AttributeError, KeyError, TypeError):
            continue  # the report is about results; an index that is gone has nothing to tell
        if entries or clipped:
            boxes = len(entries) - images
            found.append(LeftOut(str(name), images, boxes, clipped, entries[:LISTED]))
    return found


def _data_id(experiment: Experiment) -> str | None:
    """Return the id of an experiment's data set, from its last task."""
    path = experiment.task_dir(experiment.summary["tasks"][-1]["task"]) / "task.json"
    try:
        return read_json(path).get("data", {}).get("id")
    except (InputError, AttributeError):
        return None
