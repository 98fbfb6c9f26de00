"""The report says over which classes its means are: those with test instances."""

import csv
import json

import pytest

from clclip import load_run
from clclip.report import page
from clclip.report.benchmark import load
from clclip.report.sections import table
from tests.helpers.report.fixtures import GROUPS, NAMES


@pytest.mark.parametrize(
    ("empty", "over", "earlier"),
    [
        ([NAMES[-1]], "over 5 of 6 classes", "the earlier classes"),
        ([NAMES[1]], "over 5 of 6 classes", "2 of 3 earlier classes"),
        (GROUPS[-1], "over {} of 6 classes", "the earlier classes"),
    ],
)
def test_the_report_says_what_was_scored(copy, empty, over, earlier):
    root, paths = copy
    for path in paths:
        summary = json.loads(path.read_text())
        if summary["groups"] == GROUPS:
            path.write_text(json.dumps(summary | {"empty_classes": empty}))
    benchmark = load(paths)[0]
    over = over.format(6 - len(empty))
    said = table.headline(benchmark)
    assert f"{over} (the others have no test instances)" in said and "all 6" not in said
    assert f" on {earlier}" in said
    text = page.report(paths, root / "results" / "report.html", {"examples": 0})
    left = f"Without test instances, and so left out of every mean: {', '.join(sorted(empty))}."
    html = (root / "results" / "report.html").read_text()
    assert left in " ".join(text.split()) and left in html
    assert f"CL-CLIP, {over.removeprefix('over ')}" in html and "CL-CLIP, all classes" not in html
    with (root / "results" / "summary.csv").open() as handle:
        rows = {row["experiment"]: row for row in csv.DictReader(handle)}
    row = rows[benchmark.contestants[0].name]
    assert (row["classes"], row["scored_classes"]) == ("6", str(6 - len(empty)))


def test_results_from_python_name_what_was_not_scored(copy):
    root, paths = copy
    summary = json.loads(paths[2].read_text())
    for task in summary["tasks"]:
        task["per_class"] |= {NAMES[1]: None}
    paths[2].write_text(json.dumps(summary))
    run = load_run(root / "results")
    assert run[summary["experiment"]].unscored == [NAMES[1]]
    assert run[json.loads(paths[1].read_text())["experiment"]].unscored == []
