"""Several conditions of the same methods side by side."""

import json
from xml.etree import ElementTree

import pytest

from clclip.config.resolve import resolve_options
from clclip.detection.registry import METHODS
from clclip.report.benchmark import load
from clclip.report.page import report
from clclip.report.sections.conditions import (
    Comparison,
    Outcome,
    drawn,
    side_by_side,
    standalone,
)
from tests.helpers.report import world

NAMES = ["cat", "dog", "cow", "hen"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    root = tmp_path_factory.mktemp("conditions")
    truth = world.draw_images(root, NAMES, 12)
    two, four = [NAMES[:2], NAMES[2:]], [[name] for name in NAMES]
    runs = [("a_fvit", "fvit", two), ("a_joint", "joint", two), ("a_clclip", "clclip", two)]
    runs += [("b_fvit", "fvit", four), ("b_clclip", "clclip", four)]
    return [world.run(root, *one, truth, protocol=f"p{len(one[2])}") for one in runs]


def test_conditions_stand_side_by_side_best_method_first(paths):
    benchmarks = load(paths)
    (found,) = side_by_side(benchmarks)
    assert [names[1] for names in found.conditions] == ["2+2 classes", "4x1 classes"]
    names = [name for name, _ in found.methods]
    assert names[-1] == "Joint training" and found.methods[-1][1]
    by_name = dict(zip(names, found.cells, strict=True))
    finals = {e.name: e.summary["final"] for benchmark in benchmarks for e in benchmark.experiments}
    for label, method in (("CL-CLIP", "clclip"), ("F-ViT", "fvit")):
        for cell, letter in zip(by_name[label], "ab", strict=True):
            final = finals[f"{letter}_{method}"]
            assert (cell.previous, cell.current, cell.all) == (final["P"], final["C"], final["A"])
    assert by_name["Joint training"][1] is None
    assert found.best(0) == max(by_name[n][0].all for n in ("CL-CLIP", "F-ViT"))
    means = [sum(c.all for c in by_name[name]) / 2 for name in names[:2]]
    assert means == sorted(means, reverse=True)


def test_one_condition_is_no_comparison(paths):
    assert side_by_side(load(paths[:3])) == []
    only_joint_differs = load([paths[0], paths[4]])
    assert side_by_side(only_joint_differs) == []  # two conditions, but no method in both


def test_the_picture_holds_every_number_and_stands_alone(paths):
    (found,) = side_by_side(load(paths))
    tree = ElementTree.fromstring(standalone(drawn(found)))
    assert "var(" not in standalone(drawn(found))
    texts = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    bold = [
        node.text
        for node in tree.iter("{http://www.w3.org/2000/svg}text")
        if node.get("font-weight") == "700"
    ]
    scores = [f"{cell.all:.1f}" for row in found.cells for cell in row if cell]
    assert all(score in texts for score in scores) and "·" in texts
    assert sorted(bold) == sorted(f"{found.best(column):.1f}" for column in (0, 1))
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))) == len(scores) + 1


def test_the_page_shows_it(paths):
    out = paths[0].parent.parent / "report.html"
    report(paths, out, {"examples": 0})
    page = out.read_text()
    assert "The same methods under 2 conditions" in page
    assert page.index("The same methods") < page.index("Who wins")
    report(paths[:3], out, {"examples": 0})
    assert "The same methods" not in out.read_text()


def test_what_has_not_been_run_takes_no_room():
    cell = Outcome(70.0, 60.0, 65.0)
    whole = Comparison(
        [("10+10",), ("15+5",), ("19+1",)],
        [("CL-CLIP", False), ("F-ViT", False), ("Joint", True)],
        [[cell, None, cell], [None, None, None], [None, None, cell]],
    )
    known = whole.known()
    assert known.conditions == [("10+10",), ("19+1",)]
    assert [name for name, _ in known.methods] == ["CL-CLIP", "Joint"]
    assert known.cells == [[cell, cell], [None, cell]]


def test_a_variant_of_a_method_carries_its_own_label(tmp_path):
    """By its switches: a summary names CL-CLIP, the experiment may be called anything."""
    truth = world.draw_images(tmp_path, NAMES, 12)
    groups = [NAMES[:2], NAMES[2:]]
    paper = METHODS["clclip_paper"]
    switches = {"ours": {"shared": "adapters"}, "mine": {**paper.defining, "drift_weight": 2.0}}
    paths = [world.run(tmp_path, name, "clclip", groups, truth) for name in (*switches, "third")]
    for name, own in switches.items():
        file = tmp_path / "results" / name / "seed0" / "task1" / "task.json"
        task = json.loads(file.read_text())
        file.write_text(json.dumps(task | {"switches": own}))
    (benchmark,) = load(paths)
    labels = {e.name: e.label for e in benchmark.experiments}
    assert labels["mine"] == paper.label == "CL-CLIP as published"
    assert labels["ours"] == "CL-CLIP (ours)" and labels["third"] == "CL-CLIP (third)"


@pytest.mark.parametrize(
    ("method", "given", "label"),
    [
        ("clclip_paper", {}, "CL-CLIP as published"),
        ("clclip_paper", {"shared": "free"}, "CL-CLIP as published"),
        ("clclip_paper", {"orthogonality": "off"}, "CL-CLIP as published"),
        ("clclip_paper", {"gate": "off"}, "CL-CLIP as published"),
        ("clclip", {}, "CL-CLIP"),
        ("clclip", {"text_score": False}, "CL-CLIP"),
        ("clclip", {"shared": "drift"}, "CL-CLIP"),
    ],
)
def test_a_part_removed_leaves_the_method_its_label(tmp_path, method, given, label):
    path = world.run(tmp_path, "mine", "clclip", [NAMES[:2]], world.draw_images(tmp_path, NAMES, 4))
    file = tmp_path / "results/mine/seed0/task1/task.json"
    switches = resolve_options("detection", method, given, "here")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"switches": switches}))
    ((experiment,),) = (benchmark.experiments for benchmark in load([path]))
    assert experiment.method.label == label
