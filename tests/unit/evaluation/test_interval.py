"""Intervals of paired differences: against closed forms, and coverage on known populations."""

from __future__ import annotations

import numpy as np
import pytest

from clclip.evaluation.compare import PairedAccuracy, PairedAp
from clclip.evaluation.interval import NOTHING, halves, of_halves, of_images, student
from clclip.evaluation.matching import ClassMatches


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # of printed tables
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (10, 2.2281),
        (60, 2.0003),
        (1000, 1.9623),
        (1001, 1.9623),
        (1e5, 1.95998),
        (1e8, 1.95996),
    ],
)
def test_quantiles_of_students_t(freedom, quantile):
    assert student(0.975, freedom) == pytest.approx(quantile, abs=1e-4)
    assert student(0.5, freedom) == pytest.approx(0, abs=1e-6)


def test_halves_hold_each_image_once_and_all_as_often():
    drawn = halves(7, 3000, np.random.default_rng(0))
    assert (drawn.sum(axis=1) == 3).all()
    assert drawn.mean(axis=0) == pytest.approx([3 / 7] * 7, abs=0.04)
    pairs = (drawn[:, 0] & drawn[:, 1]).mean()
    assert pairs == pytest.approx(3 / 7 * 2 / 6, abs=0.04)


@pytest.mark.parametrize("images", [40, 41])
def test_of_a_mean_halves_give_the_usual_standard_error(images):
    rng = np.random.default_rng(0)
    values = rng.normal(5, 10, (2, 1, images))
    drawn = halves(images, 4000, rng)
    parts = np.stack([[(side[0] * drawn).sum(1) / drawn.sum(1)] for side in values])
    found = of_halves(values.mean(axis=2), parts, images)
    gaps = (values[0] - values[1])[0]
    reach = student(0.975, images - 1) * gaps.std(ddof=1) / images**0.5
    assert found.difference == pytest.approx(gaps.mean())
    assert found.high - found.low == pytest.approx(2 * reach, rel=0.04)
    assert (found.high + found.low) / 2 == pytest.approx(gaps.mean(), abs=0.1 * reach)


def test_a_bias_that_falls_with_the_number_of_images_is_taken_out():
    def score(images):  # 20 without end, more on few images
        return 20 + 30 / images

    rng = np.random.default_rng(0)
    drawn = np.zeros((2, 1, 5000))
    drawn[0] = score(30) + rng.normal(0, 1, 5000)
    found = of_halves(np.array([[score(60)], [0.0]]), drawn, 60)
    assert (found.low + found.high) / 2 == pytest.approx(20, abs=0.1)


def test_accuracy_is_bonett_and_price():
    right = np.zeros((2, 1, 50), dtype=bool)
    right[0, 0, :30] = right[1, 0, 8:33] = True  # 8 only by A, 3 only by B
    found = of_images(right)
    one, two = 9 / 52, 4 / 52
    reach = student(0.975, 51) * ((one + two - (one - two) ** 2) / 52) ** 0.5
    assert found.difference == pytest.approx(10)
    assert (found.low, found.high) == pytest.approx(
        (100 * (one - two - reach), 100 * (one - two + reach))
    )


def test_classifiers_that_never_differ_may_still_differ_on_other_images():
    found = of_images(np.ones((2, 1, 60), dtype=bool))
    assert found.difference == 0 and found.low == -found.high and 3 < found.high < 8
    assert of_images(np.ones((2, 1, 2), dtype=bool)).high <= 100


def test_seeds_add_their_spread():
    whole = np.array([[50.0, 60.0, 55.0], [40.0, 40.0, 40.0]])
    still = np.repeat(whole[:, :, None], 10, axis=2)  # the images say nothing
    found = of_halves(whole, still, 100)
    reach = student(0.975, 2) * 5 / 3**0.5  # the usual interval of a mean of three
    assert (found.low, found.high) == pytest.approx((15 - reach, 15 + reach))
    alone = of_halves(whole[:, :1], still[:, :1], 100)
    assert alone.low == alone.high == 10


def test_nothing_to_measure():
    assert of_images(np.ones((2, 1, 0), dtype=bool)) == NOTHING
    none = np.full((2, 1), np.nan)
    assert of_halves(none, np.full((2, 1, 5), np.nan), 10) == NOTHING
    rare = of_halves(np.array([[80.0], [70.0]]), np.full((2, 1, 5), np.nan), 10)
    assert (rare.difference, rare.low, rare.high) == (10, None, None)


NAMES = [str(k) for k in range(6)]


def rough_and_precise(images, rng):
    """Draw a detector that is right 95 times in 100, and one that is right 60 times."""
    sides = [{}, {}]
    for name in NAMES:
        objects = np.flatnonzero(rng.random(images) < 0.2)
        for side, share in zip(sides, (0.95, 0.6), strict=True):
            right = rng.random(objects.size) < share
            scores = rng.normal(0.5 * right, 1)
            order = np.argsort(-scores)
            side[name] = ClassMatches(scores[order], right[order], objects[order], objects)
    return [[side] for side in sides]


def test_the_interval_of_ap_holds_the_difference_of_the_population():
    large = PairedAp(rough_and_precise(100_000, np.random.default_rng(0)), 100_000, "voc_area", 0)
    truth = float(large.gaps(NAMES)[0])
    hits = []
    for number in range(40):
        levels = rough_and_precise(60, np.random.default_rng([1, number]))
        found = PairedAp(levels, 60, "voc_area", 50).difference(NAMES, NAMES)
        hits.append(found.low <= truth <= found.high)
    assert np.mean(hits) >= 0.85  # the bootstrap's percentiles hold it 82 times in 100


def test_the_interval_of_accuracy_holds_the_difference_of_the_population():
    hits = []
    for number in range(300):
        draws = np.random.default_rng(number).random((2, 1, 60))
        found = PairedAccuracy(["x"] * 60, draws < [[[0.97]], [[0.95]]]).difference(["x"])
        hits.append(found.low <= 2 <= found.high)
    assert np.mean(hits) >= 0.93
