"""Scores of a task from its files, summaries of seeds and experiments, and refused input."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from clclip.core.errors import InputError
from clclip.evaluation.score import score
from tests.helpers.scoring import (
    GROUPS,
    OBJECTS,
    PERFECT,
    by_class,
    classification,
    detection,
    read,
    write,
)


def test_previous_current_all(tmp_path):
    found = [(100, "cat", True, 0.9), (102, "eel", True, 0.8), (103, "eel", False, 0.9)]
    score(detection(tmp_path, 2, found))
    scores = read(tmp_path / "scores.json")
    assert scores["per_class"] == {
        "cat": {"score": 50.0, "objects": 2},
        "dog": {"score": 0.0, "objects": 1},
        "eel": {"score": 50.0, "objects": 1},
    }
    assert scores["metrics"] == {"P": 25.0, "C": 50.0, "A": pytest.approx(100 / 3)}
    assert scores["metric"] == "AP50 (area)" and scores["images"] == "full"
    assert scores["empty_classes"] == []


def test_first_task_has_no_previous_classes(tmp_path):
    score(detection(tmp_path, 1, [(100, "cat", True, 0.9), (101, "cat", True, 0.8)]))
    assert read(tmp_path / "scores.json")["metrics"] == {"P": None, "C": 50.0, "A": 50.0}


def test_group_images_hide_false_positives_elsewhere(tmp_path):
    found = [*PERFECT[:3], PERFECT[4], (100, "eel", False, 0.95), (103, "dog", False, 0.95)]
    score(detection(tmp_path, 2, found, evaluation={"images": "group"}))
    grouped = read(tmp_path / "scores.json")
    assert grouped["metrics"]["C"] == 100.0
    assert grouped["metrics"]["P"] == 100.0
    assert grouped["metrics"]["A"] == pytest.approx((100 + 100 + 50) / 3)
    score(detection(tmp_path, 2, found))
    full = read(tmp_path / "scores.json")["metrics"]
    assert full == {"P": 75.0, "C": 50.0, "A": pytest.approx(200 / 3)}


def test_on_group_images_a_class_keeps_its_score_when_tasks_are_added(tmp_path):
    """Three tasks; one wrong "cat" on the image of task 2: a detector that never changes."""
    found = [*PERFECT, (102, "cat", False, 0.95)]
    seen = []
    for number in (1, 2, 3):
        names = [name for group in GROUPS[:number] for name in group]
        own = [row for row in found if row[1] in names]
        score(detection(tmp_path, number, own, evaluation={"images": "group"}))
        seen.append(by_class(tmp_path)["cat"])
    assert seen == [100.0, 100.0, 100.0]
    assert read(tmp_path / "scores.json")["metrics"]["P"] < 100  # P's images hold that of task 2


def test_coco_flavour_averages_over_overlaps(tmp_path):
    task = detection(tmp_path, 1, PERFECT[:2], evaluation={"ap": "coco"}, objects=OBJECTS[:2])
    rows = read(tmp_path / "predictions.json")
    rows[0]["bbox"] = [0, 0, 10, 8]  # IoU 0.8: right at 7 of the 10 thresholds
    write(tmp_path / "predictions.json", rows)
    score(task)
    scores = read(tmp_path / "scores.json")
    assert by_class(tmp_path) == {"cat": pytest.approx(70.0), "dog": pytest.approx(100.0)}
    assert scores["metric"] == "AP[.50:.95]"
    assert scores["other_metrics"]["AP50 (area)"]["A"] == pytest.approx(100.0)
    task.write_text(json.dumps(read(task) | {"evaluation": {}}))
    score(task)
    others = read(tmp_path / "scores.json")["other_metrics"]
    assert others["AP[.50:.95]"] == {"P": None, "C": pytest.approx(85.0), "A": pytest.approx(85.0)}


def test_class_without_objects_is_null_and_listed(tmp_path):
    score(detection(tmp_path, 2, [(100, "cat", True, 0.9)], objects=OBJECTS[:1]))
    scores = read(tmp_path / "scores.json")
    assert scores["per_class"] == {
        "cat": {"score": 100.0, "objects": 1},
        "dog": {"score": None, "objects": 0},
        "eel": {"score": None, "objects": 0},
    }
    assert scores["metrics"] == {"P": 100.0, "C": None, "A": 100.0}
    assert scores["empty_classes"] == ["dog", "eel"]


def test_no_predictions_is_zero(tmp_path):
    score(detection(tmp_path, 2, []))
    assert read(tmp_path / "scores.json")["metrics"] == {"P": 0.0, "C": 0.0, "A": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, "image_id 999"),
        ({"category_id": 77}, "category_id 77"),
        ({"category_id": 0}, "category_id 0"),  # declared, but of a later task
        ({"score": float("nan")}, "score nan"),
        ({"score": None}, "score None"),
        ({"bbox": [0, 0, float("inf"), 1]}, "bbox"),
        ({"bbox": [0, 0, -1, 1]}, "bbox"),
        ({"bbox": [0, 0, 1]}, "bbox"),
    ],
)
def test_bad_predictions_are_refused(tmp_path, change, message):
    task = detection(tmp_path, 2, PERFECT[:3])
    rows = read(tmp_path / "predictions.json")
    rows[1] |= change
    write(tmp_path / "predictions.json", rows)
    with pytest.raises(InputError, match=message) as error:
        score(task)
    assert "predictions.json[1]" in str(error.value)
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize("content", [None, "[", '{"a": 1}', "[3]"])
def test_missing_or_broken_predictions_are_refused(tmp_path, content):
    task = detection(tmp_path, 1, [])
    (tmp_path / "predictions.json").unlink()
    if content is not None:
        (tmp_path / "predictions.json").write_text(content)
    with pytest.raises(InputError, match=r"predictions\.json"):
        score(task)


def test_accuracy_counts_images(tmp_path):
    score(classification(tmp_path, 2, ["cat", "cat", "eel", "dog", "eel", "dog"]))
    scores = read(tmp_path / "scores.json")
    assert scores["per_class"]["cat"] == {"score": pytest.approx(200 / 3), "objects": 3}
    assert by_class(tmp_path) == {"cat": pytest.approx(200 / 3), "dog": 100.0, "eel": 50.0}
    assert scores["metrics"] == {"P": 75.0, "C": 50.0, "A": pytest.approx(400 / 6)}
    assert scores["metric"] == "accuracy"


def test_equal_probabilities_take_the_first_column(tmp_path):
    task = classification(tmp_path, 2, ["cat"] * 6)
    data = read(tmp_path / "predictions.json")
    data["probabilities"] = [[0.5, 0.5, 0.5]] * 6
    write(tmp_path / "predictions.json", data)
    score(task)
    assert by_class(tmp_path) == {"cat": 100.0, "dog": 0.0, "eel": 0.0}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", ["cat", "dog"], "columns"),
        ("images", [0, 0, 2, 3, 4, 5], "twice"),
        ("images", [0, 1, 2, 3, 4, 9], "left out"),
        ("labels", ["dog", "cat", "cat", "dog", "eel", "eel"], "label 'dog' of image 0"),
        ("probabilities", [[0.1, 0.2, 0.7]] * 5, "5 rows"),
        ("probabilities", [[0.1, 0.2]] * 6, "3 finite numbers"),
        ("probabilities", [[0.1, 0.2, float("nan")]] * 6, "3 finite numbers"),
    ],
)
def test_bad_probabilities_are_refused(tmp_path, key, value, message):
    task = classification(tmp_path, 2, ["cat"] * 6)
    data = read(tmp_path / "predictions.json")
    write(tmp_path / "predictions.json", data | {key: value})
    with pytest.raises(InputError, match=message):
        score(task)


def test_scoring_needs_no_torch(tmp_path):
    task = detection(tmp_path, 2, PERFECT[:3])
    code = (
        "import sys; from pathlib import Path; from clclip.evaluation import aggregate, score\n"
        "score.score(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(task)], check=True)
    assert (tmp_path / "scores.json").exists()
