"""``clclip verify`` and ``clclip drop``: old classes bit for bit, what moved, what is hidden."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import clclip
from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.detection.weights import read_weights, save_weights
from clclip.model.card import read_card, write_card
from clclip.model.change.drop import HIDDEN, drop
from clclip.model.change.merge import merge
from clclip.model.export import export, finish
from clclip.model.verify import Change, Verification, as_text, moved, verify
from tests.helpers.model import NAMES, draw_boxes, plan_of, train, write_experiment
from tests.helpers.model_runs import BOXES, GROUPS


@pytest.fixture(scope="module")
def first(boxes_run, tmp_path_factory):
    """The model after task 1 of ``boxes_run``."""
    out = tmp_path_factory.mktemp("first") / "model"
    export(boxes_run, out, task=1, with_tower=True)
    return out


@pytest.fixture(scope="module")
def images(boxes_run):
    return boxes_run.parents[2] / "boxes/images"


@pytest.fixture(scope="module")
def without(cards_model, tmp_path_factory):
    """The model without the first class of task 1."""
    out = tmp_path_factory.mktemp("without") / "model"
    drop(cards_model, [NAMES[0]], out)
    return out


def status(found):
    return {name: row["status"] for name, row in found.classes.items()}


def test_a_task_more_leaves_old_classes_as_they_were(first, cards_model, images, tmp_path, capsys):
    words = ["verify", str(first), str(cards_model), str(images), "--out", str(tmp_path / "p.json")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "passed: 2 unchanged, 2 new" in told and "batches of 8" in told
    proof = json.loads((tmp_path / "p.json").read_text())
    assert proof["passed"] and proof["batch"] == 8 and proof["images"] == 18
    rows = proof["classes"]
    assert [rows[n]["status"] for n in NAMES[:4]] == ["unchanged"] * 2 + ["new"] * 2
    assert rows[NAMES[0]]["old"] == rows[NAMES[0]]["new"] > 0
    assert proof["moved"] == {"path 1": 0.0}
    assert status(verify(cards_model, first, [images]))[NAMES[3]] == "gone"


def test_blank_images_prove_nothing(first, cards_model, images, tmp_path, capsys):
    Image.new("RGB", (96, 72), "#000").save(tmp_path / "blank.png")
    found = verify(first, cards_model, [tmp_path / "blank.png"])
    seen = {name: row["seen"] for name, row in found.classes.items() if "seen" in row}
    assert set(seen) == set(NAMES[:2])
    assert found.passed == found.compared == any(seen.values())
    nothing = Verification({"a": Change().as_dict(), "b": {"status": "new"}}, found.facts)
    assert not nothing.passed and not nothing.as_dict()["passed"]
    assert "a  unchanged  (0 and 0: not seen)" in as_text(nothing)
    assert "FAILED: 1 unchanged, 1 new; 1 of the unchanged were not seen" in as_text(nothing)
    part = Verification({"a": Change().as_dict(), "b": Change(2, 2).as_dict()}, found.facts)
    assert part.passed and "passed: 2 unchanged; 1 of the unchanged" in as_text(part)
    strangers = Verification({"a": {"status": "gone"}, "b": {"status": "new"}}, found.facts)
    assert not strangers.passed and "nothing was compared" in as_text(strangers)


def test_another_calibration_is_told(cards_model, images, tmp_path):
    other = calibrated(cards_model, tmp_path / "model")
    found = verify(cards_model, other, [images])
    assert found.passed  # the network is the same
    rows = found.classes
    assert [rows[name].get("calibration") for name in NAMES[:4]] == ["changed"] * 2 + [None] * 2
    assert as_text(found).count("reported otherwise (calibration or threshold)") == 2
    assert "calibration" not in json.dumps(verify(other, other, [images]).classes)


def test_one_bit_is_seen_and_fails(cards_model, images, tmp_path, capsys):
    broken = shutil.copytree(cards_model, tmp_path / "broken")
    path = broken / "task1/weights.safetensors"
    tensors, told = read_weights(path)
    tensors["banks.0.bias"][1] += 1e-3
    save_weights(path, tensors, told)
    write_card(broken, read_card(broken, check_files=False))
    assert main(["verify", str(cards_model), str(broken), str(images)]) == 1
    said = capsys.readouterr().out
    assert "FAILED: 3 unchanged, 1 changed" in said
    row = verify(cards_model, broken, [images]).classes[NAMES[1]]
    assert row["status"] == "changed" and 1e-5 < row["score"] < 1e-3 and row["box_px"] == 0


def test_a_shared_path_is_told_to_have_moved(boxes_run, images, tmp_path):
    shutil.copytree(images.parent, tmp_path / "boxes")
    run = train(write_experiment(tmp_path, "shares", method="fvit", tasks=GROUPS))
    export(run, tmp_path / "one", task=1)
    export(run, tmp_path / "two")
    found = verify(tmp_path / "one", tmp_path / "two", [images], resources=tmp_path / "resources")
    assert not found.passed and found.facts["moved"]["path 1"] > 1e-4
    assert {row["status"] for row in found.classes.values()} == {"changed", "new"}


def test_a_measure_of_movement_by_hand(boxes_run):
    model = clclip.load_model(boxes_run, task=1)
    other = clclip.load_model(boxes_run, task=1)
    assert moved(model.detector, other.detector) == {"path 1": 0.0}
    with torch.no_grad():
        for value in other.detector.shared_paths()[0].state_dict().values():
            value.mul_(1.1)
    assert moved(model.detector, other.detector)["path 1"] == pytest.approx(0.1, rel=1e-4)


def test_a_classifier_is_compared_by_its_probabilities(folders_run):
    images = [folders_run.parents[2] / f"folders/test/{NAMES[0]}"]
    same = verify(folders_run, folders_run, images)
    assert same.passed and set(status(same).values()) == {"unchanged"}


def test_kinds_and_options_that_do_not_fit(boxes_run, folders_run, images):
    with pytest.raises(InputError, match="a classification model"):
        verify(boxes_run, folders_run, [images])
    with pytest.raises(InputError, match="batch 0"):
        verify(boxes_run, boxes_run, [images], batch=0)


# ---- drop ---------------------------------------------------------------------------------------


def test_the_others_stay_bit_for_bit(cards_model, without, images):
    found = verify(cards_model, without, [images])
    assert found.passed
    assert status(found) == {NAMES[0]: "gone"} | dict.fromkeys(NAMES[1:4], "unchanged")
    assert any(found.classes[name]["old"] for name in NAMES[1:4])


def test_a_dropped_class_is_hidden_and_its_expert_wiped(cards_model, without, images):
    card = read_card(without)
    assert card["classes"] == NAMES[1:4] and card["parts"][0]["hidden"] == [HIDDEN.format(NAMES[0])]
    assert [entry["name"] for entry in card["categories"]] == NAMES[1:4]
    assert NAMES[0] not in card["scores"]["per_class"] and card["scores"]["metrics"]["P"] is None
    assert card["parts"][1]["competitors"] == [HIDDEN.format(NAMES[0]), NAMES[1]]
    tensors, _ = read_weights(without / "task1/weights.safetensors")
    before, _ = read_weights(cards_model / "task1/weights.safetensors")
    for name in ("convs.0", "score", "bias", "beta"):
        bank = f"banks.0.{name}"
        assert not tensors[bank][0].any() and torch.equal(tensors[bank][1], before[bank][1])
    assert torch.equal(tensors["banks.0.threshold"], before["banks.0.threshold"])
    for found in clclip.load_model(without)(images, threshold=0):
        assert NAMES[0] not in found.names
    assert "Dropped, and never reported" in (without / "README.md").read_text()


def test_a_dropped_class_is_taught_anew_under_its_name(without, images, tmp_path):
    shutil.copytree(without, tmp_path / "model")
    draw_boxes(tmp_path / "boxes", [NAMES[0], NAMES[4]], count=4, first=60)
    values = {"start": "model", "tasks": [[NAMES[0]]], "data": BOXES}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(values))
    run = train(tmp_path / "again.yaml")
    task = json.loads((run / "task3/task.json").read_text())
    assert task["groups"][0][0] == HIDDEN.format(NAMES[0]) and task["groups"][2] == [NAMES[0]]
    assert task["text"][HIDDEN.format(NAMES[0])] == NAMES[0]
    assert task["hidden"] == [HIDDEN.format(NAMES[0])]
    rows = json.loads((run / "task3/predictions.json").read_text())
    names = {
        c["id"]: c["name"] for c in json.loads((run / "task3/test.json").read_text())["categories"]
    }
    assert rows and not {names[row["category_id"]] for row in rows} & set(task["hidden"])
    export(run, tmp_path / "again")
    found = verify(without, tmp_path / "again", [images])
    assert found.passed and status(found)[NAMES[0]] == "new"


def test_a_class_may_be_called_as_one_that_was_dropped(without, images, tmp_path):
    """The hidden column takes no name from the data, neither of a class to learn nor of another."""
    shutil.copytree(without, tmp_path / "model")
    home = draw_boxes(tmp_path / "boxes", [NAMES[0], NAMES[4]], count=4, first=60)
    name = f"{NAMES[0]} (dropped)"
    for split in ("train", "test"):
        path = home / f"{split}.json"
        path.write_text(path.read_text().replace(f'"{NAMES[0]}"', f'"{name}"'))
    values = {"start": "model", "tasks": [[name]], "data": BOXES}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(values))
    run = train(tmp_path / "again.yaml")
    card = export(run, tmp_path / "again")
    assert card["classes"] == [*NAMES[1:4], name] and card["parts"][2]["hidden"] == []
    assert card["parts"][0]["hidden"] == [HIDDEN.format(NAMES[0])]
    found = verify(without, tmp_path / "again", [images])
    assert found.passed and status(found)[name] == "new"


def test_a_column_that_an_older_version_named_is_said_to_be_one(without, tmp_path):
    """Its parts hold that name, so no class can have it."""
    name = f"{NAMES[0]} (dropped)"
    model = shutil.copytree(without, tmp_path / "model")
    for path in (*model.glob("task*/task.json"), model / "card.json"):
        path.write_text(path.read_text().replace(HIDDEN.format(NAMES[0]), name))
    card = json.loads((model / "card.json").read_text())
    write_card(model, card)
    home = draw_boxes(tmp_path / "boxes", [NAMES[0], NAMES[4]], count=4, first=60)
    for split in ("train", "test"):
        path = home / f"{split}.json"
        path.write_text(path.read_text().replace(f'"{NAMES[0]}"', f'"{name}"'))
    values = {"start": "model", "tasks": [[name]], "data": BOXES}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"a column of the model whose class was dropped.*another"):
        plan_of(tmp_path / "again.yaml")


def calibrated(place, out):
    """Return a copy of a model whose first task's classes are calibrated by given numbers."""
    model = shutil.copytree(place, out)
    entry = {"offset": 0.5, "threshold": 0.25, "objects": 30, "own": True}
    told = {"slope": 2.0, "intercept": 0.1, "objective": "f1", "images": 9}
    told |= {"classes": dict.fromkeys(GROUPS[0], entry)}
    told |= {"thresholds": dict.fromkeys(GROUPS[0], 0.25)}
    (model / "task1/calibration.json").write_text(json.dumps(told))
    card = read_card(model, check_files=False)
    card["parts"][0]["thresholds"] = told["thresholds"]
    finish(model, card, "model")
    return model


def test_what_was_calibrated_stays_with_the_classes_that_stay(cards_model, images, tmp_path):
    model = calibrated(cards_model, tmp_path / "model")
    card = drop(model, [NAMES[0]], tmp_path / "less")
    assert card["parts"][0]["thresholds"] == {NAMES[1]: 0.25}
    before, after = clclip.load_model(model), clclip.load_model(tmp_path / "less")
    assert after.thresholds[NAMES[1]] == before.thresholds[NAMES[1]] == 0.25
    file = sorted(images.glob("*.png"))[0]
    one, other = (m(file, threshold=0, classes=[NAMES[1]]) for m in (before, after))
    assert one.scores.tolist() == other.scores.tolist()


def test_a_model_is_not_written_over_itself(without, tmp_path):
    before = (without / "card.json").read_bytes()
    with pytest.raises(InputError, match="made from"):
        drop(without, [NAMES[1]], without)
    other = shutil.copytree(without, tmp_path / "other")
    for pair in ((without, other), (other, without)):
        with pytest.raises(InputError, match="made from"):
            merge(*pair, without)
    assert (without / "card.json").read_bytes() == before


def test_a_class_is_dropped_twice_over(without, images, tmp_path):
    card = drop(without, NAMES[2:4], tmp_path / "one")
    assert card["classes"] == [NAMES[1]]
    assert verify(without, tmp_path / "one", [images]).passed


def test_a_classifier_keeps_the_probabilities_of_the_rest(folders_run, tmp_path):
    export(folders_run, tmp_path / "all")
    words = ["drop", "--model", str(tmp_path / "all"), "--classes", NAMES[1]]
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    images = sorted((folders_run.parents[2] / "folders/test").glob("*/0.png"))
    kept = [0, 2, 3]
    for one, other in zip(
        clclip.load_model(tmp_path / "all", resources=folders_run.parents[2] / "resources")(images),
        clclip.load_model(tmp_path / "b", resources=folders_run.parents[2] / "resources")(images),
        strict=True,
    ):
        assert np.array_equal(one.probabilities[kept], other.probabilities)


@pytest.mark.parametrize(
    ("classes", "told"),
    [(["red squid"], "red squid.*did you mean"), (NAMES[:4], "all classes")],
)
def test_what_cannot_be_dropped_is_one_line(cards_model, tmp_path, classes, told):
    with pytest.raises(InputError, match=told):
        drop(cards_model, classes, tmp_path / "out")
    assert not list(tmp_path.iterdir())
