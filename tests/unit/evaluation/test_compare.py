"""Paired comparison of two experiments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.evaluation.aggregate import aggregate_experiment, aggregate_seed
from clclip.evaluation.ap import average_precision
from clclip.evaluation.compare import as_text, compare, find_result
from clclip.evaluation.matching import match
from clclip.evaluation.score import score
from tests.helpers.report import world

NAMES = ["red disc", "blue disc", "green disc", "gold disc"]
GROUPS = [NAMES[:2], NAMES[2:]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    truth = world.draw_images(root, NAMES, 40, seed=3)
    for method in ("fvit", "clclip", "joint"):
        world.run(root, f"zoo_{method}", method, GROUPS, truth, (0, 1))
    world.classify(root, "cil_hpeft", "hpeft", [["a", "b"], ["c"], ["d"]], 0.7)
    world.classify(root, "cil_seca", "seca", [["a", "b"], ["c"], ["d"]], 0.99)
    return root / "results"


def test_difference_is_that_of_the_summaries(made):
    found = compare(made / "zoo_clclip", made / "zoo_fvit", samples=100)
    finals = [
        json.loads((made / name / "summary.json").read_text())
        for name in ("zoo_clclip", "zoo_fvit")
    ]
    for part in "PCA":
        ends = [final["final"][part] for final in finals]
        assert (found.parts[part].a, found.parts[part].b) == pytest.approx(tuple(ends))
        assert found.parts[part].difference == pytest.approx(ends[0] - ends[1])
    assert found.seeds == [0, 1] and found.images == 40
    lost = found.parts["P"]
    assert 0 < lost.low < lost.difference < lost.high
    assert list(found.classes) == NAMES
    for name in NAMES:
        ends = [final["tasks"][-1]["per_class"][name] for final in finals]
        assert found.classes[name].difference == pytest.approx(ends[0] - ends[1])
    gaps = [
        a["final"]["A"] - b["final"]["A"]
        for a, b in zip(*(f["per_seed"] for f in finals), strict=True)
    ]
    assert found.seed_std == pytest.approx(abs(gaps[0] - gaps[1]) / 2**0.5)


def test_joint_can_be_compared(made):
    assert compare(made / "zoo_joint", made / "zoo_fvit", samples=20).parts["A"].difference > 0


def test_an_experiment_equals_itself(made):
    found = compare(made / "zoo_fvit", made / "zoo_fvit", samples=50)
    for row in found.parts.values():
        assert (row.difference, row.low, row.high) == (0, 0, 0)
    assert "*" not in as_text(found).split("interval leaves")[0].replace("* the ", "")


def test_order_turns_the_sign(made):
    one = compare(made / "zoo_clclip", made / "zoo_fvit", samples=50).parts["A"]
    two = compare(made / "zoo_fvit", made / "zoo_clclip", samples=50).parts["A"]
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-two.difference, -two.high, -two.low)
    )


def test_more_images_narrow_the_interval(tmp_path):
    widths = []
    for count in (20, 160):
        root = tmp_path / str(count)
        truth = world.draw_images(root, NAMES, count, size=128, seed=1)
        for method in ("fvit", "clclip"):
            world.run(root, f"zoo_{method}", method, GROUPS, truth)
        found = compare(*(root / "results" / f"zoo_{m}" for m in ("clclip", "fvit")), samples=150)
        widths.append(found.parts["P"].high - found.parts["P"].low)
    assert widths[1] < 0.7 * widths[0]


def test_classification(made):
    found = compare(made / "cil_seca", made / "cil_hpeft", samples=100)
    ends = [
        json.loads((made / name / "summary.json").read_text())["final"]["A"]
        for name in ("cil_seca", "cil_hpeft")
    ]
    row = found.parts["A"]
    assert (row.a, row.b) == pytest.approx(tuple(ends))
    assert row.low <= row.difference <= row.high and row.high > row.low
    assert found.seed_std is None


def test_text(made):
    text = as_text(compare(made / "zoo_clclip", made / "zoo_fvit", samples=50))
    assert text.startswith("A = zoo_clclip, B = zoo_fvit: AP50 (area) in percent, seeds 0, 1")
    assert all(f"  {name}" in text for name in NAMES)
    assert "standard deviation" in text and "[+" in text


@pytest.mark.parametrize(
    ("flavour", "images"), [("voc07", "full"), ("voc_area", "group"), ("coco", "group")]
)
def test_scores_are_those_of_the_summaries_whatever_the_reading(tmp_path, flavour, images):
    truth = world.draw_images(tmp_path, NAMES, 12, seed=3)
    finals, per_class = [], []
    for method in ("clclip", "fvit"):
        path = world.run(tmp_path, f"zoo_{method}", method, GROUPS, truth)
        folders = [path.parent / "seed0" / f"task{number}" for number in (1, 2)]
        for folder in folders:
            task = json.loads((folder / "task.json").read_text())
            settings = {"evaluation": {"ap": flavour, "images": images}}
            world.write(folder / "task.json", task | settings)
            score(folder / "task.json")
        aggregate_seed(folders, path.parent / "seed0" / "summary.json", f"zoo_{method}")
        aggregate_experiment([path.parent / "seed0" / "summary.json"], path)
        summary = json.loads(path.read_text())
        finals.append(summary["final"])
        per_class.append(summary["tasks"][-1]["per_class"])
    found = compare(*(tmp_path / "results" / f"zoo_{m}" for m in ("clclip", "fvit")), samples=5)
    for part in "PCA":
        row = found.parts[part]
        assert (row.a, row.b) == pytest.approx(tuple(final[part] for final in finals))
    for name, row in found.classes.items():
        assert (row.a, row.b) == pytest.approx(tuple(own[name] for own in per_class))
    if images == "group":  # elsewhere lies a false detection that counts on all images alone
        rows = [score_on_all(tmp_path / "results" / "zoo_fvit", name) for name in NAMES]
        assert [row.b for row in found.classes.values()] != pytest.approx(rows)


def score_on_all(folder, name):
    """Return the AP50 of a class on all test images, whatever the evaluation says."""
    truth = json.loads((folder / "seed0" / "task2" / "test.json").read_text())
    rows = json.loads((folder / "seed0" / "task2" / "predictions.json").read_text())
    found = match(truth, rows, {name: 5 + NAMES.index(name)})[name]
    return 100 * average_precision(found.true_positive, found.object_images.size)


def test_command(made, monkeypatch, capsys):
    monkeypatch.chdir(made.parent)
    assert main(["compare", "zoo_clclip", "results/zoo_fvit", "--samples", "20"]) == 0
    assert capsys.readouterr().out.startswith("A = zoo_clclip, B = zoo_fvit: AP50 (area)")
    assert main(["compare", "zoo_clclip", "zoo_fvit", "--samples", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["a"] == "zoo_clclip" and set(found["parts"]) == {"P", "C", "A"}
    assert main(["compare", "zoo_clclip", "zoo_nothing"]) == 2
    assert "no experiment 'zoo_nothing'" in capsys.readouterr().err
    assert main(["compare", "zoo_clclip", "zoo_fvit", "--samples", "1"]) == 2
    assert "--samples" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="different kind"):
        compare(made / "zoo_fvit", made / "cil_seca")
    with pytest.raises(InputError, match="no such file"):
        compare(made / "zoo_fvit", made / "nothing")
    other = tmp_path / "other"
    shutil.copytree(made / "zoo_fvit", other)
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(summary | {"seeds": [7]}))
    with pytest.raises(InputError, match=r"seeds \[7\]"):
        compare(made / "zoo_fvit", other)
    for key, value in (("image_rule", "disjoint"), ("images", "group"), ("fractions", [1.0])):
        (other / "summary.json").write_text(json.dumps(summary | {key: value}))
        with pytest.raises(InputError, match=f"different {key}, in {other}"):
            compare(made / "zoo_fvit", other)
    summary.pop("image_rule")  # of an older version
    (other / "summary.json").write_text(json.dumps(summary))
    assert compare(made / "zoo_fvit", other, samples=5).parts["A"].difference == 0
    test = json.loads((other / "seed0" / "task2" / "test.json").read_text())
    test["images"] = test["images"][::-1]
    (other / "seed0" / "task2" / "test.json").write_text(json.dumps(test))
    with pytest.raises(InputError, match="other test images"):
        compare(made / "zoo_clclip", other)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A folder with the summaries of two experiments, one of them with a seed's, and one begun."""
    for name in ("zoo_fvit", "zoo_clclip", "zoo_clclip/seed0"):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text("{}")
    (tmp_path / "results/zoo_clclip/seed0/task1").mkdir()
    (tmp_path / "results/begun/seed0").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("zoo_fvit", "results/zoo_fvit"),
        ("results/zoo_fvit", "results/zoo_fvit"),
        ("./results/zoo_fvit/", "results/zoo_fvit"),
        ("results/zoo_fvit/summary.json", "results/zoo_fvit"),
    ],
)
def test_an_experiment_is_found_by_name_and_by_folder(finished, given, found):
    assert find_result(Path(given)) == Path(found)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("results/none", ["no experiment 'results/none', in results,", "zoo_clclip, zoo_fvit"]),
        ("none", ["no experiment 'none', in results,"]),
        ("zoo_fvi", ["no experiment 'zoo_fvi' (did you mean 'zoo_fvit'?)"]),
        ("results/zoo_clip", ["'results/zoo_clip' (did you mean 'zoo_clclip'?)"]),
        ("/nowhere/zoo_fvit", ["'/nowhere/zoo_fvit', in /nowhere"]),
        ("results/zoo_clclip/seed0", ["part of an experiment", "results/zoo_clclip"]),
        ("results/zoo_clclip/seed0/task1", ["part of an experiment", "results/zoo_clclip"]),
        ("results/begun", ["results/begun has no summary.json"]),
        ("begun", ["results/begun has no summary.json"]),
        ("results", ["no experiment 'results', in results,"]),
    ],
)
def test_a_wrong_name_is_told_as_it_was_given(finished, given, parts):
    with pytest.raises(InputError) as caught:
        find_result(Path(given))
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    assert "results/results" not in str(caught.value)
