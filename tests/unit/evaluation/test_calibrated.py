"""The map from scores to shares right, and thresholds: known truths are found again."""

import json

import numpy as np
import pytest

from clclip.core.errors import InputError, WrongValue
from clclip.evaluation.ap import average_precision
from clclip.evaluation.calibrated.objective import Objective
from clclip.evaluation.calibrated.part import (
    LEAST_OBJECTS,
    calibrate_part,
    map_of,
    read_part,
    read_parts,
)
from clclip.evaluation.calibrated.rows import Rows
from clclip.evaluation.calibrated.score_map import LEAST_SLOPE, ScoreMap, fit_map, logit, sigmoid
from clclip.evaluation.calibrated.thresholds import choose
from clclip.evaluation.calibration import reliability

F1 = Objective()


def drawn(count, truth, name="cat", seed=0):
    """Draw detections whose share right is the map ``truth``."""
    draws = np.random.default_rng(seed)
    scores = draws.uniform(0.01, 0.99, count)
    return scores, draws.uniform(size=count) < truth(scores, name)


def rows(parts, objects=None, images=30):
    """Return the rows of {class: (scores, right)}."""
    names = [name for name, (scores, _) in parts.items() for _ in scores]
    scores = np.concatenate([scores for scores, _ in parts.values()])
    right = np.concatenate([right for _, right in parts.values()])
    counts = {name: int(right.sum()) for name, (_, right) in parts.items()}
    return Rows(names, scores, right, objects or counts, images)


def test_the_map_that_made_the_answers_is_found_again():
    truth = ScoreMap(2.5, -1.0)
    scores, right = drawn(20_000, truth)
    found = fit_map(scores, right, ["cat"] * len(scores))
    assert found.slope == pytest.approx(2.5, abs=0.15)
    assert found.intercept == pytest.approx(-1.0, abs=0.1)
    fresh, answers = drawn(20_000, truth, seed=1)
    before, after = reliability(fresh, answers), reliability(found(fresh, "cat"), answers)
    assert before.error > 10 and after.error < 1.5


def test_it_solves_the_penalised_likelihood():
    """At the optimum the gradient, worked out by differences, is zero."""
    scores, right = drawn(300, ScoreMap(1.5, 0.5))
    names = ["cat" if k % 3 else "dog" for k in range(300)]
    found = fit_map(scores, right, names, ["cat", "dog"], shrinkage=5.0)

    def loss(slope, intercept, cat, dog):
        offsets = {"cat": cat, "dog": dog}
        odds = slope * logit(scores) + intercept + np.array([offsets[name] for name in names])
        told = -np.log(np.where(right, sigmoid(odds), sigmoid(-odds))).sum()
        return told + 2.5 * (cat**2 + dog**2) + 5e-3 * (slope - 1) ** 2

    at = np.array([found.slope, found.intercept, found.offsets["cat"], found.offsets["dog"]])
    for k in range(4):
        step = np.eye(4)[k] * 1e-4
        assert abs(loss(*(at + step)) - loss(*(at - step))) / 2e-4 < 1e-2


@pytest.mark.parametrize("count", [10, 100, 3000])
def test_an_offset_is_drawn_to_zero_where_little_was_seen(count):
    easy, hard = drawn(4000, ScoreMap(2, 1)), drawn(count, ScoreMap(2, -1), seed=2)
    names = ["easy"] * 4000 + ["hard"] * count
    scores, right = (np.concatenate(pair) for pair in zip(easy, hard, strict=True))
    found = fit_map(scores, right, names, ["easy", "hard"])
    gap = found.offsets["easy"] - found.offsets["hard"]
    assert 0 < gap < 2.3
    if count == 3000:
        assert gap > 1.6
    if count == 10:
        assert gap < 1.2


def test_scores_that_say_nothing_or_the_opposite_still_rise():
    scores, right = drawn(500, ScoreMap(-3, 0))
    found = fit_map(scores, right, ["cat"] * 500)
    assert found.slope == LEAST_SLOPE
    assert found(scores, "cat").mean() == pytest.approx(right.mean(), abs=0.01)


@pytest.mark.parametrize("right", [[], [True] * 5, [False] * 5])
def test_without_right_and_wrong_the_map_is_the_identity(right):
    found = fit_map([0.5] * len(right), right, ["cat"] * len(right))
    assert found([0.25, 0.9], "cat") == pytest.approx([0.25, 0.9])


def test_perfectly_parted_scores_give_finite_numbers():
    found = fit_map([0.2] * 20 + [0.8] * 20, [False] * 20 + [True] * 20, ["cat"] * 40)
    assert 1 < found.slope < 100 and np.isfinite(found.intercept)


def test_no_ranking_and_no_ap_of_a_class_changes():
    """Even of scores that differ in the last bit of single precision, at both ends."""
    near = np.float32(0.999)
    close = [1.0, float(np.nextafter(near, np.float32(1))), float(near), 0.5, 1e-5, 1.1e-5, 0.0]
    line = ScoreMap(3.7, -2.0, {"cat": -0.4})
    mapped = line(close, "cat")
    assert list(np.argsort(mapped)) == list(np.argsort(close))
    assert len(set(mapped.tolist())) == len(close)
    scores, right = drawn(400, ScoreMap(1, -1))
    after = np.argsort(-line(scores, "cat"), kind="stable")
    before = np.argsort(-scores, kind="stable")
    values = [average_precision(right[order], 200, "voc_area") for order in (before, after)]
    assert values[0] == values[1]


def test_f1_and_precision_against_all_thresholds():
    scores, right = drawn(200, ScoreMap(2, 0))
    objects = int(right.sum()) + 20

    def told(threshold):
        shown = scores >= threshold
        hits = int((right & shown).sum())
        return 2 * hits / (shown.sum() + objects), hits / max(1, shown.sum())

    best = choose(scores, right, objects, F1)
    assert told(best)[0] == max(told(score)[0] for score in scores)
    strict = choose(scores, right, objects, Objective(0.9))
    assert told(strict)[1] >= 0.9
    assert all(told(score)[1] < 0.9 for score in scores if score < strict)


def test_equal_scores_are_shown_together():
    assert choose([0.5, 0.5, 0.2], [True, False, False], 1, Objective(0.5)) == pytest.approx(0.35)
    assert choose([0.5, 0.5], [True, False], 1, Objective(0.9)) is None
    assert choose([0.4], [True], 1, F1) == pytest.approx(0.2)
    assert choose([0.4], [False], 1, F1) is None and choose([], [], 0, F1) is None


@pytest.mark.parametrize("text", ["", "f2", "precision", "precision:0", "precision:1.1", "f1:2"])
def test_an_objective_that_is_none(text):
    with pytest.raises(WrongValue, match=r"f1, or precision:0\.9"):
        Objective.read(text)


def test_objectives_are_read_as_they_are_written():
    for text in ("f1", "precision:0.9"):
        assert str(Objective.read(text)) == text


def test_a_class_of_few_objects_takes_its_task_s_numbers():
    parts = {
        "many": drawn(400, ScoreMap(2, 1)),
        "few": drawn(30, ScoreMap(2, -3), seed=3),
        "none": (np.zeros(0), np.zeros(0, dtype=bool)),
    }
    part = calibrate_part(rows(parts), ["many", "few", "none"], F1)
    told = part["classes"]
    assert told["many"]["objects"] >= LEAST_OBJECTS and told["many"]["own"]
    assert not told["few"]["own"] and told["few"]["offset"] == 0.0
    assert told["few"]["threshold"] == told["none"]["threshold"]
    assert map_of(part)([0.5], "none") == map_of(part)([0.5], "few")
    assert part["thresholds"] == {name: entry["threshold"] for name, entry in told.items()}


def test_a_class_that_cannot_reach_the_precision_is_told_apart(caplog):
    """It is shown from its task's threshold on, with a warning of how many are right there."""
    parts = {
        "many": (np.full(1000, 0.9), np.arange(1000) % 20 > 0),
        "never": (np.full(60, 0.9), np.arange(60) % 10 < 4),
    }
    part = calibrate_part(rows(parts), ["many", "never"], Objective(0.5))
    entry, right = part["classes"]["never"], np.concatenate([r for _, r in parts.values()])
    assert entry["objects"] >= LEAST_OBJECTS and not entry["own"] and part["classes"]["many"]["own"]
    mapped = [map_of(part)(scores, name) for name, (scores, _) in parts.items()]
    common = choose(np.concatenate(mapped), right, int(right.sum()), Objective(0.5))
    assert entry["threshold"] == part["thresholds"]["never"] == common
    (record,) = caplog.records
    assert record.getMessage() == (
        "class 'never' reaches a precision of 0.5 at no threshold: it takes its task's "
        f"{common:.3f}, from which on 40% of its boxes are right"
    )


@pytest.mark.parametrize("objective", [F1, Objective(0.5)])
def test_a_class_without_a_right_detection_has_no_threshold_of_its_own(objective, caplog):
    wrong = (np.linspace(0.1, 0.6, 30), np.zeros(30, dtype=bool))
    given = rows({"many": drawn(400, ScoreMap(2, 1)), "never": wrong}, {"many": 250, "never": 40})
    part = calibrate_part(given, ["many", "never"], objective)
    assert not part["classes"]["never"]["own"] and part["classes"]["many"]["own"]
    assert "class 'never'" in caplog.text


def test_classes_of_other_tasks_change_nothing():
    own = {"cat": drawn(300, ScoreMap(2, 0))}
    alone = calibrate_part(rows(own), ["cat"], F1)
    beside = rows(own | {"dog": drawn(500, ScoreMap(1, 3), seed=4)})
    assert calibrate_part(beside, ["cat"], F1) == alone


def test_parts_are_read_class_by_class(tmp_path):
    parts = [calibrate_part(rows({n: drawn(200, ScoreMap(2, k))}), [n], F1)
             for k, n in enumerate(("cat", "dog"))]  # fmt: skip
    for k, part in enumerate(parts):
        (tmp_path / str(k)).mkdir()
        (tmp_path / str(k) / "calibration.json").write_text(json.dumps(part))
    (tmp_path / "none").mkdir()
    found = read_parts([tmp_path / "0", tmp_path / "none", tmp_path / "1"])
    assert found.thresholds == parts[0]["thresholds"] | parts[1]["thresholds"]
    names = ["cat", "bird", "dog"]
    mapped = found.scores(np.array([0.3, 0.3, 0.3], dtype=np.float32), np.array([0, 1, 2]), names)
    assert mapped[1] == np.float32(0.3)
    assert mapped[0] == map_of(parts[0])([np.float32(0.3)], "cat")[0] != mapped[2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"slope": -1.0}, "a number"),
        ({"slope": "x"}, "a number 'x'"),
        ({"classes": {"cat": {"offset": 0.0}}}, "class 'cat'"),
        ({"classes": []}, "no object"),
    ],
)
def test_a_damaged_file_is_told(tmp_path, change, told):
    part = calibrate_part(rows({"cat": drawn(200, ScoreMap(2, 0))}), ["cat"], F1)
    (tmp_path / "calibration.json").write_text(json.dumps(part | change))
    with pytest.raises(InputError, match=told):
        read_part(tmp_path)
