"""Reliability of scores: by hand, and on detectors that are over- or underconfident on purpose."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clclip.core.errors import InputError
from clclip.evaluation.calibration import calibration, reliability
from tests.helpers.report import world

REST = {"text": {}, "training": {}, "switches": {}, "evaluation": {}}
REST |= {"data": {"id": "zoo-1"}, "clip": {"id": "c"}}


def test_by_hand():
    found = reliability([0.82, 0.88, 0.85, 0.15], [True, False, True, True])
    assert found.count == 4
    assert [(b.count, b.score, b.right) for b in found.bins] == [
        (1, pytest.approx(0.15), 1.0),
        (3, pytest.approx(0.85), pytest.approx(2 / 3)),
    ]
    assert found.error == pytest.approx(100 * (0.85 + 3 * (0.85 - 2 / 3)) / 4)
    assert found.gap == pytest.approx(100 * (0.675 - 0.75))


def test_ends_of_the_scale():
    found = reliability([0.0, 1.0, 1.3], [False, True, True])
    assert [b.count for b in found.bins] == [1, 2]
    assert found.error == found.gap == 0.0
    assert reliability([], []) is None
    with pytest.raises(ValueError, match="2 scores for 1"):
        reliability([0.1, 0.2], [True])


def test_honest_scores_have_no_error():
    rng = np.random.default_rng(0)
    scores = rng.random(40_000)
    right = rng.random(40_000) < scores
    assert reliability(scores, right).error < 1
    assert reliability(scores, right).gap == pytest.approx(0, abs=1)
    assert reliability(scores**0.5, right).gap > 10
    assert reliability(scores**2, right).gap < -10


def detector(folder, score_of):
    """Write a second task: 40 objects a class, of which every second box is right."""
    names = ["old", "new"]
    truth = {
        "images": [{"id": i, "width": 64, "height": 64} for i in range(80)],
        "categories": [{"id": 7, "name": "old"}, {"id": 3, "name": "new"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": [7, 3][i % 2], "bbox": [0, 0, 20, 20]}
            for i in range(80)
        ],
    }
    rows = []
    for item in truth["annotations"]:
        name = names[item["image_id"] % 2]
        box = [0, 0, 20, 20] if item["image_id"] // 2 % 2 else [40, 40, 9, 9]
        rows.append({"image_id": item["image_id"], "category_id": item["category_id"]}
                    | {"bbox": box, "score": score_of[name]})  # fmt: skip
    task = {"kind": "detection", "method": "fvit", "seed": 0, "task": 2}
    world.write(folder / "task.json", task | {"groups": [["old"], ["new"]]} | REST)
    world.write(folder / "test.json", truth)
    world.write(folder / "predictions.json", rows)
    return folder / "task.json"


def test_old_and_new_classes_are_told_apart(tmp_path):
    found = calibration(detector(tmp_path, {"old": 0.1, "new": 0.9}))
    assert found["previous"].count == found["current"].count == 40
    assert found["previous"].gap == pytest.approx(-40)
    assert found["current"].gap == pytest.approx(40)
    assert found["previous"].error == pytest.approx(40)


def test_lowest_scores_are_left_out(tmp_path):
    found = calibration(detector(tmp_path, {"old": 0.04, "new": 0.5}))
    assert found["previous"] is None
    assert found["current"].error == pytest.approx(0)


def test_difficult_objects_do_not_count(tmp_path):
    task = detector(tmp_path, {"old": 0.5, "new": 0.5})
    truth = json.loads((tmp_path / "test.json").read_text())
    for item in truth["annotations"]:
        item["ignore"] = 1
    world.write(tmp_path / "test.json", truth)
    found = calibration(task)
    assert found["previous"].count == 20, "only the boxes beside the objects are left"
    assert found["previous"].gap == pytest.approx(50)


def test_classification_goes_by_the_class_given(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "label": "ab"[i % 2]} for i in range(4)]
    task = {"kind": "classification", "method": "seca", "seed": 0, "task": 2}
    world.write(tmp_path / "task.json", task | {"groups": [["a"], ["b"]]} | REST)
    world.write(tmp_path / "test.json", {"classes": ["a", "b"], "images": images})
    data = {"classes": ["a", "b"], "images": [0, 1, 2, 3], "labels": list("abab")}
    rows = [[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.1, 0.9]]
    world.write(tmp_path / "predictions.json", data | {"probabilities": rows})
    found = calibration(tmp_path / "task.json")
    # a is said of images 0 (right) and 1 (wrong); b of images 2 (wrong) and 3 (right)
    assert (found["previous"].count, found["previous"].gap) == (2, pytest.approx(25))
    assert (found["current"].count, found["current"].gap) == (2, pytest.approx(32.5))


def test_missing_predictions_are_refused(tmp_path):
    task = detector(tmp_path, {"old": 0.5, "new": 0.5})
    (tmp_path / "predictions.json").unlink()
    with pytest.raises(InputError, match=r"predictions\.json"):
        calibration(task)
