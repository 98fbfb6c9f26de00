"""``clclip calibrate``: what it writes, what it leaves alone, and what a model does with it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import clclip
from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.data.labelled import read_labelled
from clclip.evaluation.matching import Matching
from clclip.model.calibrate import calibrate
from clclip.model.card import read_card
from clclip.model.change.drop import drop
from tests.helpers.model import NAMES
from tests.helpers.model_runs import GROUPS

EVERY = ("train", "test")


@pytest.fixture
def labelled(boxes_run, tmp_path):
    """The images of the run's data as one labelled set of all classes: 18 images, 36 objects."""
    home = boxes_run.parents[2] / "boxes"
    parts = [json.loads((home / f"{split}.json").read_text()) for split in EVERY]
    known = {c["id"]: c for part in parts for c in part["categories"]}
    data = {key: parts[0][key] + parts[1][key] for key in ("images", "annotations")}
    path = tmp_path / "held.json"
    path.write_text(json.dumps(data | {"categories": list(known.values())}))
    shutil.copytree(home / "images", tmp_path / "images")
    return path


@pytest.fixture
def own_model(cards_model, tmp_path):
    return shutil.copytree(cards_model, tmp_path / "model")


def aps(found, model, images, threshold):
    """Return AP50 per class of what the model reports on the images."""
    ids = {c["name"]: c["id"] for c in found.dataset["categories"]}
    rows = []
    answers = model([found.paths[n] for n in images], threshold=threshold)
    for number, answer in zip(images, answers, strict=True):
        for record, name in zip(answer.to_coco(number), answer.names, strict=True):
            rows.append(record | {"category_id": ids[name]})
    return Matching(found.dataset, rows, ids).average_precision([0.5])


def test_a_model_folder_is_calibrated_and_stays_whole(own_model, labelled):
    before = clclip.load_model(own_model)
    outcome = calibrate(own_model, labelled)
    card = read_card(own_model)  # its digests are those of the files as they are now
    after = clclip.load_model(own_model)
    thresholds = {k: v for part in outcome.parts.values() for k, v in part["thresholds"].items()}
    assert set(thresholds) == set(before.classes)
    assert after.thresholds == thresholds != before.thresholds
    assert [set(part["thresholds"]) for part in card["parts"]] == [
        set(part["classes"]) for part in card["parts"]
    ]
    assert outcome.after.error < outcome.before.error
    text = outcome.as_text()
    assert all(name in text for name in before.classes) and "before," in text


def test_no_ap_changes_and_old_parts_are_left_alone(own_model, labelled):
    found = read_labelled(labelled)
    images = sorted(found.paths)
    plain = aps(found, clclip.load_model(own_model), images, 0.0)
    calibrate(own_model, labelled, task=1)
    first = (own_model / "task1/calibration.json").read_bytes()
    assert not (own_model / "task2/calibration.json").exists()
    calibrate(own_model, labelled, task=2)
    assert (own_model / "task1/calibration.json").read_bytes() == first
    assert aps(found, clclip.load_model(own_model), images, 0.0) == plain
    assert any(plain.values())


def test_scores_are_mapped_sorted_and_cut_by_each_class_s_own_threshold(own_model, labelled):
    found = read_labelled(labelled)
    path = found.paths[min(found.paths)]
    raw = clclip.load_model(own_model)(path, threshold=0)
    outcome = calibrate(own_model, labelled)
    model = clclip.load_model(own_model)
    mapped = model(path, threshold=0)
    assert len(mapped) == len(raw) and (np.diff(mapped.scores) <= 0).all()
    for part in outcome.parts.values():
        for name, entry in part["classes"].items():
            own = [np.array(a.names) == name for a in (raw, mapped)]
            before, after = (
                a.scores[k].astype(float) for a, k in zip((raw, mapped), own, strict=True)
            )
            odds = np.log(before / (1 - before)) * part["slope"] + part["intercept"]
            expected = 1 / (1 + np.exp(-odds - entry["offset"]))
            np.testing.assert_allclose(after, expected, rtol=1e-6)
    shown = model(path)
    lowest = [model.thresholds[name] for name in shown.names]
    assert (shown.scores >= lowest).all()
    assert len(model(path, threshold=0.999999)) <= len(shown) <= len(mapped)


def test_a_run_is_calibrated_in_place_and_exported_so(boxes_run, labelled, tmp_path):
    home = shutil.copytree(boxes_run.parents[2], tmp_path / "work")
    run = home / boxes_run.relative_to(boxes_run.parents[2])
    calibrate(run, labelled)
    kept = json.loads((run / "task2/calibration.json").read_text())
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "out")]) == 0
    found = clclip.load_model(tmp_path / "out").thresholds
    assert {name: found[name] for name in kept["thresholds"]} == kept["thresholds"]


def test_detect_uses_the_class_s_own_threshold_and_can_be_told_another(
    own_model, labelled, tmp_path
):
    calibrate(own_model, labelled)
    thresholds = clclip.load_model(own_model).thresholds
    words = ["--model", str(own_model), str(tmp_path / "images")]
    assert main(["detect", *words, "--out", str(tmp_path / "own")]) == 0
    assert main(["detect", *words, "--out", str(tmp_path / "all"), "--threshold", "0"]) == 0
    own, every = (
        json.loads((tmp_path / n / "detections.json").read_text()) for n in ("own", "all")
    )
    assert all(row["score"] >= thresholds[row["class"]] for row in own)
    kept = [row for row in every if row["score"] >= thresholds[row["class"]]]
    assert [(r["image"], r["bbox"]) for r in kept] == [(r["image"], r["bbox"]) for r in own]
    told = json.loads((tmp_path / "own/dataset.json").read_text())["info"]["threshold"]
    assert told == thresholds


def test_a_yolo_data_set_serves_too(own_model, labelled, tmp_path):
    from clclip.data.writers.formats import write_formats

    data = json.loads(labelled.read_text())
    names = [image["file_name"] for image in data["images"]]
    write_formats(data, tmp_path, ["yolo"], "x")
    shutil.copytree(tmp_path / "images", tmp_path / "yolo/images")
    found = read_labelled(tmp_path / "yolo")
    assert len(found.paths) == len(names)
    one = calibrate(own_model, tmp_path / "yolo").parts[1]["thresholds"]
    two = calibrate(own_model, labelled).parts[1]["thresholds"]
    assert one == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "words", "told"),
    [
        (lambda d: d.update(annotations=[a for a in d["annotations"] if a["category_id"] != 3]),
         [], f"no object of class {NAMES[0]!r}"),
        (lambda d: d["categories"].pop(0), [], "category_id 3"),
        (lambda d: d["annotations"][0].update(bbox=[90, 0, 50, 10]), [], "px outside its image"),
        (lambda d: d["images"][0].update(file_name="gone.png"), [], "no such image"),
        (lambda d: d["images"][0].update(width=200, height=10), [], "200 x 10 recorded"),
        (lambda d: d.update(images=[], annotations=[]), [], "no image"),
        (lambda d: None, ["--objective", "f3"], "objective 'f3', in --objective"),
        (lambda d: None, ["--task", "7"], "task 7, in --task"),
        (lambda d: None, ["--images", "nowhere"], "no folder 'nowhere', in --images"),
    ],
)  # fmt: skip
def test_bad_data_is_one_line_and_changes_nothing(own_model, labelled, capsys, change, words, told):
    data = json.loads(labelled.read_text())
    change(data)
    labelled.write_text(json.dumps(data))
    before = sorted((p, p.read_bytes()) for p in own_model.rglob("*") if p.is_file())
    given = ["calibrate", "--model", str(own_model), "--data", str(labelled), *words]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert sorted((p, p.read_bytes()) for p in own_model.rglob("*") if p.is_file()) == before


def test_the_command_warns_of_a_precision_that_a_class_cannot_reach(
    own_model, labelled, capsys, monkeypatch
):
    monkeypatch.setattr("clclip.evaluation.calibrated.part.LEAST_OBJECTS", 1)
    words = ["--model", str(own_model), "--data", str(labelled), "--objective", "precision:1"]
    assert main(["calibrate", *words]) == 0
    said = capsys.readouterr()
    parts = [json.loads(p.read_text()) for p in own_model.glob("task*/calibration.json")]
    entries = {name: entry for part in parts for name, entry in part["classes"].items()}
    lacking = [name for name, entry in entries.items() if not entry["own"]]
    assert lacking and said.out.count("its task") == len(lacking)
    for name in lacking:
        assert f"class {name!r} reaches a precision of 1 at no threshold" in said.err


def test_a_damaged_calibration_is_told(own_model, labelled):
    calibrate(own_model, labelled)
    path = own_model / "task1/calibration.json"
    path.write_text(path.read_text().replace('"slope"', '"slop"'))
    with pytest.raises(InputError, match="has changed since it was written"):
        clclip.load_model(own_model)


def test_a_task_whose_classes_were_all_dropped_has_nothing_to_calibrate(
    own_model, labelled, tmp_path, capsys
):
    calibrate(own_model, labelled, task=2)
    model = tmp_path / "less"
    drop(own_model, GROUPS[1], model)
    before = sorted((p, p.read_bytes()) for p in model.rglob("*") if p.is_file())
    given = ["calibrate", "--model", str(model), "--data", str(labelled)]
    assert main([*given, "--task", "2"]) == 2
    said = capsys.readouterr().err
    assert "task 2, whose classes were all dropped" in said and said.count("\n") == 1
    assert sorted((p, p.read_bytes()) for p in model.rglob("*") if p.is_file()) == before
    emptied = (model / "task2/calibration.json").read_bytes()
    assert list(calibrate(model, labelled).parts) == [1], "what is left is calibrated"
    assert (model / "task2/calibration.json").read_bytes() == emptied
    assert clclip.load_model(model).classes == GROUPS[0]
