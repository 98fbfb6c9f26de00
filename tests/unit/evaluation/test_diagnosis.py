"""The diagnosis on runs in which one thing was broken on purpose."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from clclip.core.errors import InputError
from clclip.evaluation.ap import average_precision
from clclip.evaluation.boxes import iou
from clclip.evaluation.causes import RESTING, matched
from clclip.evaluation.diagnosis import diagnose, split_loss
from clclip.evaluation.matching import match

IDS = {"old": 1, "other": 2, "new": 3}
OLD, OTHER, NEW = IDS.values()


def truth():
    """Ten images, each with one object of the old class, one of an older and one of a new class."""
    annotations = [
        {"image_id": image, "category_id": category, "bbox": [100 * category, 0, 40, 40]}
        for image in range(10)
        for category in IDS.values()
    ]
    return {
        "images": [{"id": image} for image in range(10)],
        "categories": [{"id": k, "name": n} for n, k in IDS.items()],
        "annotations": [a | {"id": k, "area": 1600} for k, a in enumerate(annotations)],
    }


def perfect():
    """Every object found; scores fall with the image's number."""
    return [
        {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9 - a["image_id"] / 50}
        for a in copy.deepcopy(truth()["annotations"])
    ]


def of_old(rows):
    """The detections of the class under study."""
    return [row for row in rows if row["category_id"] == OLD]


def causes_of(after, before=None, proposals=None):
    data = truth()
    runs = [matched(data, rows, IDS) for rows in (before or perfect(), after)]
    return split_loss(*runs, OLD, {NEW}, proposals)


def lost(after, before=None):
    values = [
        average_precision(match(truth(), rows, IDS)["old"].true_positive, 10)
        for rows in (before or perfect(), after)
    ]
    return 100 * (values[0] - values[1])


def test_nothing_broken_loses_nothing():
    assert causes_of(perfect()) == {}


def test_broken_boxes():
    rows = perfect()
    for row in of_old(rows)[:4]:
        row["bbox"][0] += 25  # IoU 15 / 65
    causes = causes_of(rows)
    assert set(causes) == {"box"}
    assert causes["box"] == pytest.approx(lost(rows))
    assert causes["box"] > 40


def test_broken_scores():
    rows = perfect()
    before = [*perfect(), {"image_id": 0, "category_id": OLD, "bbox": [0, 300, 9, 9], "score": 0.2}]
    rows.append(before[-1])
    for row in of_old(rows)[:5]:
        row["score"] = 0.01
    causes = causes_of(rows, before)
    assert set(causes) == {"score"}
    assert causes["score"] == pytest.approx(lost(rows, before))
    assert causes["score"] > 3


def test_broken_proposals_and_relegation_are_told_apart_by_proposals():
    missing = of_old(perfect())[:3]
    rows = [row for row in perfect() if row not in missing]
    assert causes_of(rows) == {"no detection near": pytest.approx(30.0)}
    ids = [str(a["id"]) for a in truth()["annotations"] if a["category_id"] == OLD]
    everywhere = dict.fromkeys(ids, 0.7)
    assert causes_of(rows, proposals=everywhere) == {"score": pytest.approx(30.0)}
    assert causes_of(rows, proposals={}) == {"not proposed": pytest.approx(30.0)}
    assert set(causes_of(rows, proposals=dict.fromkeys(ids, 0.49))) == {"not proposed"}
    rest = dict.fromkeys(ids, RESTING)
    assert causes_of(rows, proposals=rest) == {"resting path": pytest.approx(30.0)}
    causes = causes_of(rows, proposals={key: 0.7 for key in ids[:2]})
    assert set(causes) == {"not proposed", "score"}
    assert sum(causes.values()) == pytest.approx(30.0)


def test_misplaced_boxes_of_objects_without_proposals_are_no_fault_of_the_boxes():
    rows = perfect()
    for row in of_old(rows)[:4]:
        row["bbox"][0] += 25
    ids = [str(a["id"]) for a in truth()["annotations"] if a["category_id"] == OLD]
    assert causes_of(rows, proposals={}) == {"not proposed": pytest.approx(lost(rows))}
    assert causes_of(rows, proposals=dict.fromkeys(ids, 0.8)) == {"box": pytest.approx(lost(rows))}


@pytest.mark.parametrize(("rival", "cause"), [(NEW, "new class"), (OTHER, "old class")])
def test_object_taken_by_another_class(rival, cause):
    rows = perfect()
    for row in of_old(rows)[:4]:
        row["category_id"] = rival
    causes = causes_of(rows)
    assert causes == {cause: pytest.approx(40.0)}


@pytest.mark.parametrize(("rival", "cause"), [(NEW, "new class"), (OTHER, "old class")])
def test_object_of_another_class_called_this_one(rival, cause):
    rows = perfect()
    rows += [
        {"image_id": i, "category_id": OLD, "bbox": [100 * rival, 0, 40, 40], "score": 0.95}
        for i in range(5)
    ]
    causes = causes_of(rows)
    assert causes == {cause: pytest.approx(lost(rows))}
    assert causes[cause] > 10


def test_rival_that_outscores_the_right_box():
    # The class still finds its objects, but below wrong boxes which both runs make.
    noise = [
        {"image_id": i, "category_id": OLD, "bbox": [0, 300, 9, 9], "score": 0.3} for i in range(5)
    ]
    rows = perfect() + noise
    for row in of_old(rows)[:10]:
        row["score"] *= 0.1
    taken = [
        {"image_id": i, "category_id": NEW, "bbox": [100 * OLD, 0, 40, 40], "score": 0.8}
        for i in range(10)
    ]
    causes = causes_of(rows + taken, perfect() + noise)
    assert causes["new class"] == pytest.approx(lost(rows, perfect() + noise))
    assert causes.get("score", 0) == pytest.approx(0)


def test_a_better_box_that_moved_away_leaves_the_object_to_a_worse_one():
    # Wrong boxes elsewhere, which both runs make, rank above the worse box but below the better.
    noise = [
        {"image_id": i, "category_id": OLD, "bbox": [0, 300, 9, 9], "score": 0.3} for i in range(5)
    ]
    worse = [row | {"score": 0.1} for row in of_old(perfect())]
    rows = perfect()
    for row in of_old(rows):
        row["bbox"][0] += 25
    causes = causes_of(rows + worse + noise, perfect() + worse + noise)
    assert causes["box"] > 20 and causes.get("score", 0) == pytest.approx(0)
    low = perfect()
    for row in of_old(low):
        row["score"] = 0.1
    causes = causes_of(low + noise, perfect() + noise)
    assert set(causes) == {"score"} and causes["score"] > 20


def test_duplicates_and_background():
    rows = perfect()
    rows += [
        {"image_id": i, "category_id": OLD, "bbox": [102, 0, 40, 40], "score": 0.899 - i / 50}
        for i in range(5)
    ]
    causes = causes_of(rows)
    assert set(causes) == {"duplicate"} and causes["duplicate"] == pytest.approx(lost(rows))
    rows = perfect()
    rows += [
        {"image_id": i, "category_id": OLD, "bbox": [0, 300, 40, 40], "score": 0.95}
        for i in range(5)
    ]
    causes = causes_of(rows)
    assert set(causes) == {"background"} and causes["background"] == pytest.approx(lost(rows))


def test_equal_scaling_of_all_scores_is_no_loss():
    noise = [
        {"image_id": i, "category_id": OLD, "bbox": [0, 300, 9, 9], "score": 0.8} for i in range(5)
    ]
    before = perfect() + noise
    after = [row | {"score": row["score"] / 2} for row in before]
    assert causes_of(after, before) == {"score": pytest.approx(0.0)}


def test_gain_is_a_negative_loss():
    before = [row for row in perfect() if row not in of_old(perfect())[:2]]
    assert causes_of(perfect(), before) == {"gained": pytest.approx(-20.0)}


def test_shares_sum_to_the_loss_when_everything_breaks_at_once():
    rng = np.random.default_rng(0)
    rows = []
    for row in perfect():
        draw = rng.integers(6)
        if draw == 0:
            continue
        if draw == 1:
            row["bbox"][0] += int(rng.integers(10, 30))
        if draw == 2:
            row["category_id"] = int(rng.choice([OLD, OTHER, NEW]))
        if draw == 3:
            row["score"] = float(rng.random())
        if draw == 4:
            rows.append(row | {"score": float(rng.random())})
        rows.append(row)
    causes = causes_of(rows)
    assert len(causes) >= 4
    assert sum(causes.values()) == pytest.approx(lost(rows))


def test_overlap():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [50, 50, 0, 0]])
    assert iou(boxes[:1], boxes).tolist() == [[1.0, pytest.approx(1 / 3), 0.0]]
    assert iou(np.zeros((0, 4)), boxes).shape == (0, 3)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def test_files_of_a_stream(tmp_path):
    groups = [["other"], ["old"], ["new"]]
    rest = {"kind": "detection", "method": "fvit", "seed": 0, "text": {}, "data": {"id": "d"}}
    rest |= {"clip": {"id": "c"}, "training": {}, "switches": {}, "evaluation": {}}
    seen = [IDS["other"]]
    for number in (1, 2, 3):
        folder = tmp_path / f"task{number}"
        seen = [IDS[name] for group in groups[:number] for name in group]
        write(folder / "task.json", rest | {"task": number, "groups": groups[:number]})
        write(folder / "test.json", truth())
        rows = [row for row in perfect() if row["category_id"] in seen]
        if number == 3:
            for row in of_old(rows)[:5]:
                row["category_id"] = NEW
        write(folder / "predictions.json", rows)
    result = diagnose(tmp_path / "task3" / "task.json")
    assert result["classes"]["other"]["lost"] == pytest.approx(0)
    old = result["classes"]["old"]
    assert (old["earlier_task"], old["before"], old["after"]) == (2, 100.0, 50.0)
    assert old["causes"] == {"new class": pytest.approx(50.0)}
    assert "new" not in result["classes"]
    assert diagnose(tmp_path / "task1" / "task.json")["classes"] == {}
    write(tmp_path / "task3" / "proposals.json", {"iou": {}})
    assert diagnose(tmp_path / "task3" / "task.json")["proposals"] is True
    lost = {str(number): 0.0 for number in range(30)}
    write(tmp_path / "task3" / "proposals.json", {"iou": lost, "resting": list(lost)})
    assert diagnose(tmp_path / "task3" / "task.json")["proposals"] is True
    write(tmp_path / "task3" / "proposals.json", [])
    with pytest.raises(InputError, match=r"no overlaps.*proposals\.json"):
        diagnose(tmp_path / "task3" / "task.json")
