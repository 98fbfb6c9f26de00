"""The part of the page that says why classes were forgotten."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from clclip.errors import InputError
from clclip.evaluation.causes import CAUSES
from clclip.evaluation.diagnosis import diagnose
from clclip.files import read_json
from clclip.report.charts import bars
from clclip.report.collect import Experiment, Setting

logger = logging.getLogger(__name__)

# Okabe and Ito's palette once more; two greys for what lies outside classes.
LOOKS = {
    "not proposed": ("#3d434c", "no proposal overlaps the object any more"),
    "no detection near": ("#CC79A7", "the object is missed, and no box of its class lies near it"),
    "score": ("#0072B2", "relegated: the object's score fell, or it fell out of the list"),
    "box": ("#56B4E9", "the box overlaps its object too little"),
    "new class": ("#D55E00", "confused with a class that came later"),
    "old class": ("#E69F00", "confused with a class that came earlier or at the same time"),
    "duplicate": ("#009E73", "a second box on a found object"),
    "background": ("#8A8F98", "a box on nothing"),
    "found anew": ("#F0E442", "found only by the later task (a gain)"),
}


@dataclass(frozen=True)
class Why:
    """Bars of all methods, and one table of classes per method."""

    seed: int
    legend: list[tuple[str, str, str]]
    bars: Markup
    tables: list[tuple[Experiment, list[str], list[tuple[str, dict[str, Any]]]]]


def why(setting: Setting) -> Why | None:
    """Return the diagnosis of a setting's last task; None if there is nothing to show."""
    if not setting.detection:
        return None
    found = {}
    for experiment in setting.contestants:
        classes = _diagnosis(experiment)
        if classes:
            found[id(experiment)] = experiment, classes
    if not found:
        return None
    rows, tables = [], []
    for experiment, classes in found.values():
        means = {
            cause: sum(row["causes"].get(cause, 0.0) for row in classes.values()) / len(classes)
            for cause in CAUSES
        }
        losses = {cause: max(0.0, share) for cause, share in means.items()}
        rows.append((experiment.label, losses, sum(means.values())))
        own = [c for c in CAUSES if any(c in row["causes"] for row in classes.values())]
        worst = sorted(classes.items(), key=lambda item: -item[1]["lost"])
        tables.append((experiment, own, worst))
    used = {cause for _, shares, _ in rows for cause, share in shares.items() if share > 0.05}
    legend = [(c, f"var(--cause{k})", LOOKS[c][1]) for k, c in enumerate(CAUSES) if c in used]
    unit = "points of AP lost, mean over earlier classes"
    drawn = bars(rows, {cause: colour for cause, colour, _ in legend}, unit)
    return Why(setting.experiments[0].summary["seeds"][0], legend, drawn, tables)


def _diagnosis(experiment: Experiment) -> dict[str, Any]:
    """Return the classes of diagnosis.json, or compute them from the predictions."""
    folder = experiment.task_dir(experiment.summary["tasks"][-1]["task"])
    try:
        if (folder / "diagnosis.json").exists():
            return read_json(folder / "diagnosis.json")["classes"]
        return diagnose(folder / "task.json")["classes"]
    except InputError as error:
        logger.warning("no diagnosis of %s: %s", experiment.name, error)
        return {}
