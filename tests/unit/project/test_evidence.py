"""Kept evidence: tables drawn from it, and cells that are missing, stale or of another kind."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from clclip.core.errors import InputError
from clclip.workflow.plan import plan_run

FILE = Path(__file__).parents[3] / "benchmarks/evidence.py"


PARTS = ("evidence_rows", "evidence_today", "evidence_tables", "evidence_markdown")


@pytest.fixture
def evidence(tmp_path, monkeypatch):
    """Return what the command is made of; evidence and tables lie in a temporary folder."""
    monkeypatch.syspath_prepend(str(FILE.parent))
    parts = [importlib.import_module(name) for name in PARTS]
    rows = parts[0]
    monkeypatch.setattr(rows, "HERE", tmp_path / "benchmarks")
    monkeypatch.setattr(rows, "EVIDENCE", tmp_path / "benchmarks/evidence")
    answers = {"status": "", "rev-parse": "0123456789"}
    monkeypatch.setattr(rows, "git", lambda *arguments: answers[arguments[0]])
    (tmp_path / "docs").mkdir()
    names = {name: value for part in reversed(parts) for name, value in vars(part).items()}
    return SimpleNamespace(**names, answers=answers)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def finished(root, name, seed, last, coco=40.0):
    """Write results as a finished run of a shipped experiment leaves them, as far as is read."""
    plan = plan_run({"experiments": [name], "seeds": [seed]}).experiments[name]
    folder = root / "results" / name
    for (_, number), task in plan.tasks.items():
        here = folder / f"seed{seed}/task{number}"
        write(here / "task.json", task.payload)
        rows = {"AP50 (area)": last, "AP[.50:.95]": {"P": coco, "C": coco, "A": coco}}
        write(here / "scores.json", {"metric": "AP50 (area)", "other_metrics": rows})
    write(folder / f"seed{seed}/summary.json", {"experiment": name, "forgetting": 3.0})
    return folder


def scores(p, c, a):
    return {"P": p, "C": c, "A": a}


def tables(module, tmp_path, **changes):
    content = {
        "title": "Which",
        "page": "docs/page.md",
        "picture": "docs/picture.svg",
        "seeds": [0],
        "conditions": {"shapes_10_10": ["10+10"], "shapes_15_5": ["15+5", "later"]},
        "methods": {"fvit": "F-ViT", "clclip": "CL-CLIP", "joint": "Joint"},
    }
    path = tmp_path / "tables.yaml"
    path.write_text(yaml.safe_dump({"which": {**content, **changes}}, sort_keys=False))
    return module.read_tables(path)[0]


def test_tables_hold_the_kept_scores_and_name_missing_cells(evidence, tmp_path):
    kept = [
        finished(tmp_path, "shapes_10_10_fvit", 0, scores(2, 74, 38)),
        finished(tmp_path, "shapes_10_10_clclip", 0, scores(76, 75, 75.5), 51.25),
        finished(tmp_path, "shapes_10_10_joint", 0, scores(80, 76, 78)),
    ]
    evidence.add(kept)
    table = tables(evidence, tmp_path)
    lines = evidence.markdown(table, "AP50 (area)").splitlines()
    assert lines[0] == "|  | 10+10 | 15+5, later |"
    assert lines[2:] == [
        "| CL-CLIP | **75.5** (76.0 / 75.0) | – |",
        "| F-ViT | 38.0 (2.0 / 74.0) | – |",
        "| Joint | 78.0 (80.0 / 76.0) | – |",
    ]
    assert "| CL-CLIP | **51.2** (51.2 / 51.2) | – |" in evidence.markdown(table, "AP[.50:.95]")
    missing = [f"missing: shapes_15_5_{m}, seed 0" for m in ("fvit", "clclip", "joint")]
    assert table.notes() == missing
    (tmp_path / "docs/page.md").write_text(
        "# Which\n\n<!-- evidence: AP50 (area) -->\nold\n<!-- end -->\n\nrest\n"
    )
    evidence.write(table)
    page = (tmp_path / "docs/page.md").read_text()
    assert "**75.5**" in page and "old" not in page and page.endswith("\n\nrest\n")
    assert ">75.5<" in (tmp_path / "docs/picture.svg").read_text()


def test_seeds_are_averaged_and_a_lacking_one_is_named(evidence, tmp_path):
    for seed, a in ((3, 70.0), (4, 74.0)):
        evidence.add([finished(tmp_path / str(seed), "shapes_10_10_fvit", seed, scores(1, 2, a))])
    table = tables(evidence, tmp_path, seeds=[3, 4, 5], conditions={"shapes_10_10": ["10+10"]})
    assert "72.0** ± 2.8" in evidence.markdown(table, "AP50 (area)")
    assert "missing: shapes_10_10_fvit, seed 5" in table.notes()


def test_close_methods_are_compared_on_the_seeds_that_both_have(evidence, tmp_path):
    measured = {"clclip": {0: 75.0, 1: 72.0, 2: 90.0}, "fvit": {0: 74.0, 1: 74.0}}
    for method, by_seed in measured.items():
        for seed, a in by_seed.items():
            root = tmp_path / f"{method}{seed}"
            evidence.add([finished(root, f"shapes_10_10_{method}", seed, scores(1, 2, a), a - 30)])
    close = {"methods": ["clclip", "fvit"], "seeds": [1, 2], "conditions": ["shapes_10_10"]}
    table = tables(evidence, tmp_path, close=close)
    assert table.paired("shapes_10_10", "fvit", "AP50 (area)") == {0: 1.0, 1: -2.0}
    lines = evidence.differences(table.differences(), evidence.METRICS).splitlines()
    assert lines == [
        "|  | above | AP50 (area) | AP[.50:.95] | seeds |",
        "| --- | --- | --- | --- | --- |",
        "| 10+10 | F-ViT | -0.5 ± 2.1 | -0.5 ± 2.1 | 0, 1 |",
    ]
    assert "missing: shapes_10_10_fvit, seed 2" in table.notes()
    assert "missing: shapes_10_10_joint, seed 0" in table.notes()  # and no seed more
    assert "79.0** ± 9.6" in evidence.markdown(table, "AP50 (area)")
    page = tmp_path / "docs/page.md"
    block = "<!-- evidence: differences of {} -->\n<!-- end -->\n"
    page.write_text(block.format("Which") + block.format("Another"))
    evidence.write(table)
    assert page.read_text().count(lines[2]) == 1  # another table's block is left alone
    assert page.read_text().endswith(block.format("Another"))


@pytest.mark.parametrize("key", ["training", "settings", "data"])
def test_what_today_would_make_otherwise_is_stale(evidence, tmp_path, key):
    evidence.add([finished(tmp_path, "shapes_10_10_fvit", 0, scores(2, 74, 38))])
    [entry] = evidence.kept("shapes_10_10_fvit", [0])
    assert evidence.why_stale(entry) is None
    assert evidence.why_stale(replace(entry, **{key: "other"})) == f"other {key} today"
    gone = replace(entry, experiment="shapes_10_10_gone")
    assert "no such experiment" in evidence.why_stale(gone)


def test_shared_code_is_what_every_method_of_a_kind_trains_with(evidence):
    code = evidence.shared_code("detection")
    assert code == evidence.fingerprint("clclip.detection.stages.train")
    assert code != evidence.shared_code("classification")


def test_rows_of_other_code_or_data_are_told(evidence, tmp_path):
    for method in ("fvit", "clclip", "joint"):
        evidence.add([finished(tmp_path, f"shapes_10_10_{method}", 0, scores(1, 2, 3))])
    path = tmp_path / "benchmarks/evidence/shapes_10_10_clclip/seed0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shared": "older", "data": "x-v0"}))
    notes = tables(evidence, tmp_path, conditions={"shapes_10_10": ["10+10"]}).notes()
    assert any("mixed: other shared training code" in n and "clclip seed 0" in n for n in notes)
    assert "mixed: shapes_10_10 has data shapes20-v1, x-v0" in notes
    assert any(n.startswith("stale: shapes_10_10_clclip, seed 0: other data today") for n in notes)


def test_code_that_gives_the_same_numbers_again_makes_nothing_stale(evidence, tmp_path):
    folder = finished(tmp_path, "shapes_10_10_fvit", 0, scores(1, 2, 3))
    evidence.add([folder])
    path = tmp_path / "benchmarks/evidence/shapes_10_10_fvit/seed0.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"training": "older", "shared": "older too"}))
    [entry] = evidence.kept("shapes_10_10_fvit", [0])
    assert evidence.why_stale(entry) == "other training today"
    summary = folder / "seed0/summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"unseen": [1.0]}))
    evidence.prove([folder])  # a key that summaries did not have then
    assert evidence.why_stale(entry) is None
    assert evidence.same_code("older too") == evidence.same_code(kept["shared"])
    [first, _] = evidence.equal_codes()
    assert first["shown by"] == "shapes_10_10_fvit seed 0"
    assert evidence.why_stale(replace(entry, training="oldest")) == "other training today"


def test_other_numbers_prove_nothing(evidence, tmp_path):
    evidence.add([finished(tmp_path, "shapes_10_10_fvit", 0, scores(1, 2, 3))])
    with pytest.raises(InputError, match="other scores than kept"):
        evidence.prove([finished(tmp_path, "shapes_10_10_fvit", 0, scores(1, 2, 3.5))])
    same = finished(tmp_path / "again", "shapes_10_10_fvit", 0, scores(1, 2, 3))
    summary = same / "seed0/summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"experiment": "other"}))
    with pytest.raises(InputError, match="other experiment than kept"):
        evidence.prove([same])
    with pytest.raises(InputError, match="nothing is kept"):
        evidence.prove([finished(tmp_path, "shapes_10_10_joint", 0, scores(1, 2, 3))])
    assert evidence.equal_codes() == []


def test_evidence_names_its_commit(evidence, tmp_path):
    folder = finished(tmp_path, "shapes_10_10_fvit", 0, scores(1, 2, 3))
    evidence.answers["status"] = " M clclip/workflow/plan.py"
    with pytest.raises(InputError, match="without a commit"):
        evidence.add([folder])
    with pytest.raises(InputError, match="no finished seed"):
        evidence.collect(tmp_path / "nothing", "x")


def test_the_shipped_tables_can_be_drawn(evidence):
    for table in evidence.read_tables(FILE.parent / "tables.yaml"):
        assert table.close and set(table.close.methods) <= set(table.methods)
        assert set(table.close.conditions) <= set(table.conditions)
        assert len(evidence.markdown(table, "AP50 (area)").splitlines()) == 2 + len(table.methods)


def test_new_predictions_of_kept_weights_keep_their_training(evidence, tmp_path):
    folder = finished(tmp_path, "shapes_10_10_clclip", 0, scores(76, 75, 75.5))
    with pytest.raises(InputError, match="no weights are kept of it"):
        evidence.add([folder], predicted=True)
    evidence.add([folder])
    path = tmp_path / "benchmarks/evidence/shapes_10_10_clclip/seed0.json"
    before = {"training": "older", "shared": "older too", "settings": "others", "commit": "then"}
    path.write_text(json.dumps(json.loads(path.read_text()) | before))
    evidence.add([finished(tmp_path, "shapes_10_10_clclip", 0, scores(70, 71, 70.5))], True)
    [now] = evidence.kept("shapes_10_10_clclip", [0])
    assert (now.training, now.shared, now.commit) == ("older", "older too", "then")
    assert now.predicted == "0123456789" and now.scores["AP50 (area)"]["A"] == 70.5
    assert evidence.why_stale(now) == "other training today"  # and no other settings
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "other-v1"}))
    with pytest.raises(InputError, match="a kept seed on the same data"):
        evidence.add([folder], predicted=True)
