"""Forgetting and averages by hand, and on the published logs of SECA."""

from __future__ import annotations

import pytest

from clclip.evaluation import continual

# Accuracy right after learning each of 10 tasks, and of the same tasks at the end (10S ImageNet-R,
# three orders).
DIAGONAL = [
    [95.85, 95.68, 94.36, 87.30, 87.03, 86.32, 89.51, 86.80, 87.90, 80.63],
    [95.80, 94.81, 94.74, 88.44, 84.50, 87.66, 86.76, 84.92, 85.22, 79.70],
    [96.04, 92.61, 92.14, 93.96, 88.40, 88.84, 83.81, 84.43, 84.59, 81.19],
]
FINAL = [
    [83.91, 85.19, 82.88, 79.01, 78.45, 82.41, 86.96, 84.05, 86.20, 80.63],
    [80.17, 88.92, 91.73, 83.67, 76.56, 82.29, 82.35, 82.20, 82.66, 79.70],
    [85.89, 83.86, 85.54, 87.28, 81.83, 81.34, 79.68, 82.01, 84.26, 81.19],
]
CURVES = [
    [95.85, 94.16, 92.43, 90.38, 88.83, 87.09, 85.68, 84.98, 84.23, 83.13],
    [95.80, 93.88, 92.83, 89.75, 88.37, 87.45, 86.42, 85.24, 84.07, 83.15],
    [96.04, 93.09, 91.19, 90.83, 88.83, 87.41, 85.71, 84.52, 84.32, 83.32],
]
SIZES = [
    [603, 648, 479, 567, 478, 665, 667, 765, 529, 599],
    [595, 713, 532, 649, 529, 559, 612, 736, 548, 527],
    [581, 663, 560, 629, 655, 493, 556, 578, 610, 675],
]


@pytest.mark.parametrize(("order", "expected"), list(enumerate([6.85, 5.81, 5.90])))
def test_published_forgetting(order, expected):
    # Only the diagonal and the last row are published; the best is the diagonal in these logs.
    matrix = [[None] * 10 for _ in range(10)]
    for task in range(10):
        matrix[task][task] = DIAGONAL[order][task]
    matrix[9] = FINAL[order]
    assert continual.task_forgetting(matrix) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(("order", "expected"), list(enumerate([88.68, 88.70, 88.52])))
def test_published_average(order, expected):
    assert continual.mean(CURVES[order]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("order", range(3))
def test_published_last_accuracy_is_the_mean_over_images(order):
    last = continual.weighted_mean(FINAL[order], SIZES[order])
    assert last == pytest.approx(CURVES[order][-1], abs=0.01)


GROUPS = [["a", "b"], ["c"], ["d"]]
AFTER = [
    {"a": 80.0, "b": 60.0},
    {"a": 70.0, "b": 65.0, "c": 50.0},
    {"a": 75.0, "b": 20.0, "c": 52.0, "d": 90.0},
]


def test_detection_forgetting_is_a_mean_over_classes_of_earlier_tasks():
    # a: 80 - 75, b: 65 - 20, c: 50 - 52; d is of the last task.
    assert continual.forgetting_per_class(AFTER, GROUPS) == {"a": 5.0, "b": 45.0, "c": -2.0}
    assert continual.detection_forgetting(AFTER, GROUPS) == pytest.approx(48 / 3)


def test_a_class_without_instances_is_left_out():
    after = [dict(scores, b=None) for scores in AFTER]
    assert continual.forgetting_per_class(after, GROUPS)["b"] is None
    assert continual.detection_forgetting(after, GROUPS) == pytest.approx(3 / 2)


def test_one_task_forgets_nothing():
    assert continual.detection_forgetting(AFTER[:1], GROUPS[:1]) is None
    assert continual.task_forgetting([[80.0]]) is None


def test_matrix_rows_are_tasks_and_columns_groups():
    assert continual.score_matrix(AFTER, GROUPS) == [
        [70.0, None, None],
        [67.5, 50.0, None],
        [47.5, 52.0, 90.0],
    ]


def test_matrix_of_accuracies_weighs_by_images():
    matrix = continual.score_matrix(AFTER, GROUPS, {"a": 3, "b": 1, "c": 5, "d": 5})
    assert matrix[0][0] == pytest.approx((3 * 80 + 60) / 4)
    assert matrix[2][2] == 90.0


def test_deviation_is_that_of_a_sample():
    assert continual.deviation([1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert continual.deviation([1.0]) is None
    assert continual.deviation([1.0, None]) is None
    assert continual.mean([None]) is None
    assert continual.weighted_mean([1.0, None], [0, 4]) is None
