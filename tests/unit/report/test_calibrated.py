"""The report shows what calibration changed, the thresholds, and classes not yet taught."""

import json
import re

from clclip.report import page
from clclip.report.benchmark import load
from clclip.report.sections.calibration import thresholds, trust
from clclip.report.sections.unseen import unseen
from tests.helpers.report.fixtures import GROUPS

LINE = {"slope": 2.0, "intercept": -1.0, "objective": "f1", "images": 40}


def part(names):
    classes = {
        name: {"offset": 0.0, "threshold": 0.25 + k / 10, "objects": 25 - 10 * k, "own": k == 0}
        for k, name in enumerate(names)
    }
    return LINE | {
        "classes": classes,
        "thresholds": {n: e["threshold"] for n, e in classes.items()},
    }


def calibrated(paths):
    """Calibrate every task of CL-CLIP, and say what it knows of later classes."""
    path = next(p for p in paths if p.parent.name.endswith("clclip"))
    summary = json.loads(path.read_text())
    for seed in summary["seeds"]:
        for number, group in enumerate(summary["groups"], 1):
            folder = path.parent / f"seed{seed}" / f"task{number}"
            (folder / "calibration.json").write_text(json.dumps(part(group)))
    later = [name for group in summary["groups"][1:] for name in group]
    rows = [{"task": 1, "AP": 12.34, "per_class": dict.fromkeys(later, 12.34)}]
    path.write_text(json.dumps(summary | {"unseen": rows}))
    return summary


def test_before_and_after_thresholds_and_unseen_classes(copy):
    root, paths = copy
    plain = load(paths)[0]
    assert not thresholds(plain) and not unseen(plain)
    before = len(trust(plain))
    summary = calibrated(paths)
    benchmark = next(s for s in load(paths) if s.groups == summary["groups"] == GROUPS)
    found = trust(benchmark)
    assert len(found) == before + 1
    pair = [t for t in found if t.experiment.folder.name.endswith("clclip")]
    assert [t.mapped for t in pair] == [False, True]
    assert pair[0].groups["current"].error != pair[1].groups["current"].error
    told = thresholds(benchmark)
    assert [row.name for row in told] == [name for group in GROUPS for name in group]
    assert told[0].own and told[0].objects == 25 and told[0].threshold == 0.25
    (row,) = unseen(benchmark)
    assert (row.task, row.unseen) == (1, 12.34)
    assert (row.old, row.new) == (None, summary["tasks"][0]["C"])
    page.report(paths, root / "results" / "report.html", {"examples": 0})
    html = (root / "results" / "report.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    for said in ("CL-CLIP, calibrated", "From which score on is a class shown?", "12.3"):
        assert said in text
    assert "What does it know of words never trained?" in text
