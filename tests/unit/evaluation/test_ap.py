"""AP readings against values by hand, and matches against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clclip.evaluation import ap
from clclip.evaluation.ap import COCO_IOUS, average_precision, average_precision_on
from clclip.evaluation.matching import Matching, match

FLAVOURS = ("voc_area", "voc07", "coco101")


def truth(objects, images=3, classes=2):
    """A COCO data set; objects are (image, category, box[, flags])."""
    return {
        "images": [{"id": 10 * i, "width": 64, "height": 64} for i in range(images)],
        "categories": [{"id": 7 * k, "name": f"class{k}"} for k in range(classes)],
        "annotations": [
            {"id": n, "image_id": 10 * o[0], "category_id": 7 * o[1], "bbox": list(o[2])}
            | {"area": o[2][2] * o[2][3], "iscrowd": 0}
            | (o[3] if len(o) > 3 else {})
            for n, o in enumerate(objects)
        ],
    }


def results(rows):
    """COCO results; rows are (image, category, box, score)."""
    return [
        {"image_id": 10 * r[0], "category_id": 7 * r[1], "bbox": list(r[2]), "score": r[3]}
        for r in rows
    ]


IDS = {"class0": 0, "class1": 7}


def test_hand_made_curve():
    # Hits at ranks 1, 3, 6 of 6, 4 objects: precision 1, 2/3, 1/2 at recall 1/4, 1/2, 3/4; recall
    # 1 never reached.
    hits = np.array([1, 0, 1, 0, 0, 1], dtype=bool)
    assert average_precision(hits, 4) == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    # Recalls 0, .1, .2 -> 1; .3, .4, .5 -> 2/3; .6, .7 -> 1/2; .8, .9, 1 -> 0.
    assert average_precision(hits, 4, "voc07") == pytest.approx((3 + 3 * 2 / 3 + 2 / 2) / 11)
    # 0..25 -> 1 (26 points), 26..50 -> 2/3 (25), 51..75 -> 1/2 (25).
    assert average_precision(hits, 4, "coco101") == pytest.approx((26 + 50 / 3 + 12.5) / 101)


def test_envelope_takes_the_best_later_precision():
    # Ranks: wrong, right, right: raw precision 1/2, 2/3; the envelope lifts the first to 2/3.
    assert average_precision(np.array([False, True, True]), 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_limits(flavour):
    assert average_precision(np.zeros(0, bool), 0, flavour) is None
    assert average_precision(np.zeros(5, bool), 0, flavour) is None
    assert average_precision(np.zeros(0, bool), 3, flavour) == 0
    assert average_precision(np.zeros(9, bool), 3, flavour) == 0
    assert average_precision(np.ones(3, bool), 3, flavour) == pytest.approx(1)


def test_eleven_points_hit_a_recall_of_three_tenths():
    hits = np.array([True] * 3)
    assert average_precision(hits, 10, "voc07") == pytest.approx(4 / 11)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="2 true positives for 1 objects"):
        average_precision(np.ones(2, bool), 1)
    with pytest.raises(ValueError, match="unknown AP metric 'voc12'"):
        average_precision(np.ones(1, bool), 1, "voc12")


def test_one_object_is_found_once():
    data = truth([(0, 0, (0, 0, 10, 10))])
    found = match(data, results([(0, 0, (0, 0, 10, 9), 0.4), (0, 0, (0, 0, 10, 10), 0.9)]), IDS)[
        "class0"
    ]
    assert found.scores.tolist() == [0.9, 0.4]
    assert found.true_positive.tolist() == [True, False]
    assert found.object_images.tolist() == [0]


def test_threshold_is_inclusive():
    data = truth([(0, 0, (0, 0, 10, 10))])
    found = match(data, results([(0, 0, (0, 0, 10, 5), 0.9)]), IDS, iou=0.5)["class0"]
    assert found.true_positive.tolist() == [True]
    found = match(data, results([(0, 0, (0, 0, 10, 4.9), 0.9)]), IDS, iou=0.5)["class0"]
    assert found.true_positive.tolist() == [False]


def test_wrong_class_and_wrong_image_do_not_match():
    data = truth([(0, 0, (0, 0, 10, 10)), (1, 1, (0, 0, 10, 10))])
    rows = results([(0, 1, (0, 0, 10, 10), 0.9), (1, 0, (0, 0, 10, 10), 0.8)])
    found = match(data, rows, IDS)
    assert not found["class0"].true_positive.any()
    assert not found["class1"].true_positive.any()


def test_difficult_and_crowd_are_ignored():
    data = truth(
        [
            (0, 0, (0, 0, 10, 10), {"ignore": 1}),
            (0, 0, (20, 20, 40, 40), {"iscrowd": 1}),
            (0, 0, (0, 30, 10, 10)),
        ]
    )
    rows = [
        (0, 0, (0, 0, 10, 10), 0.9),  # on the difficult object: left out
        (0, 0, (0, 0, 10, 9), 0.8),  # the difficult object is taken: wrong
        (0, 0, (25, 25, 10, 10), 0.7),  # inside the crowd: left out
        (0, 0, (40, 40, 10, 10), 0.6),  # a crowd takes any number
        (0, 0, (0, 30, 10, 10), 0.5),
    ]
    found = match(data, results(rows), IDS)["class0"]
    assert found.scores.tolist() == [0.8, 0.5]
    assert found.true_positive.tolist() == [False, True]
    assert found.object_images.size == 1


def test_equal_scores_keep_image_then_file_order():
    data = truth([(2, 0, (0, 0, 10, 10))])
    rows = [(2, 0, (0, 0, 10, 10), 0.5), (0, 0, (9, 9, 3, 3), 0.5), (0, 0, (1, 1, 3, 3), 0.5)]
    found = match(data, results(rows), IDS)["class0"]
    assert found.images.tolist() == [0, 0, 2]
    assert found.true_positive.tolist() == [False, False, True]


def test_only_the_best_hundred_of_an_image_count():
    data = truth([(0, 0, (0, 0, 10, 10)), (1, 0, (0, 0, 10, 10))])
    rows = [(0, 0, (30, 30, 5, 5), 0.9 - 0.001 * n) for n in range(100)]
    rows += [(0, 0, (0, 0, 10, 10), 0.1), (1, 0, (0, 0, 10, 10), 0.05)]
    found = match(data, results(rows), IDS)["class0"]
    assert found.scores.size == 101
    assert found.true_positive.tolist() == [False] * 100 + [True]


def test_nothing_predicted_or_nothing_there():
    data = truth([(0, 0, (0, 0, 10, 10))])
    found = match(data, [], IDS)
    assert found["class0"].scores.size == 0 and found["class0"].object_images.size == 1
    found = match(data, results([(0, 1, (0, 0, 10, 10), 0.5)]), IDS)
    assert found["class1"].object_images.size == 0
    assert found["class1"].true_positive.tolist() == [False]


def test_within_keeps_the_chosen_images():
    data = truth([(0, 0, (0, 0, 10, 10)), (1, 0, (0, 0, 10, 10))])
    rows = results([(0, 0, (0, 0, 10, 10), 0.9), (1, 0, (40, 0, 10, 10), 0.8)])
    part = match(data, rows, IDS)["class0"].within({1})
    assert part.scores.tolist() == [0.8]
    assert part.object_images.tolist() == [1]


def pycocotools_ap(data, rows, iou):
    """Per class AP at one IoU by pycocotools, None where it says -1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        # pycocotools reads annotation id 0 as "unmatched".
        gt.dataset = data | {"annotations": [a | {"id": a["id"] + 1} for a in data["annotations"]]}
        gt.createIndex()
        evaluator = COCOeval(gt, gt.loadRes([dict(row) for row in rows]), "bbox")
        evaluator.params.iouThrs = np.array([iou])
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][0, :, :, 0, -1]
    return [None if (column < 0).any() else float(column.mean()) for column in precision.T]


COORDINATE = st.integers(0, 12)
SIDE = st.integers(1, 12)
BOX = st.tuples(COORDINATE, COORDINATE, SIDE, SIDE)
OBJECT = st.tuples(
    st.integers(0, 2), st.integers(0, 1), BOX, st.sampled_from([{}, {}, {}, {"iscrowd": 1}])
)
ROW = st.tuples(st.integers(0, 2), st.integers(0, 1), BOX, st.sampled_from([0.1, 0.2, 0.5, 0.9]))


@settings(max_examples=120, deadline=None)
@given(st.lists(OBJECT, max_size=10), st.lists(ROW, min_size=1, max_size=20))
def test_equal_to_pycocotools(objects, rows):
    data, found = truth(objects), results(rows)
    for iou in (0.5, COCO_IOUS[6]):
        expected = pycocotools_ap(data, found, iou)
        mine = match(data, found, IDS, iou)
        for name, value in zip(IDS, expected, strict=True):
            got = average_precision(
                mine[name].true_positive, mine[name].object_images.size, "coco101"
            )
            assert (got is None) == (value is None)
            assert got is None or got == pytest.approx(value, abs=1e-12)


FLAGS = st.sampled_from([{}, {}, {}, {"iscrowd": 1}, {"ignore": 1}])
FLAGGED = st.tuples(st.integers(0, 2), st.integers(0, 1), BOX, FLAGS)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(FLAGGED, max_size=10),
    st.lists(ROW, max_size=20),
    st.one_of(st.none(), st.sets(st.integers(0, 2), min_size=1)),
)
def test_all_overlaps_at_once_equal_one_after_another(objects, rows, images):
    """On all images or some, with crowds and difficult objects, whatever was asked before."""
    data, found = truth(objects), results(rows)
    matching = Matching(data, found, IDS)
    alone = {name: [] for name in IDS}
    for iou in COCO_IOUS:
        for name, one in match(data, found, IDS, iou).items():
            part = one if images is None else one.within(images)
            alone[name].append(
                average_precision(part.true_positive, part.object_images.size, "coco101")
            )
    matching.average_precision((0.5,), {0})
    together = matching.average_precision(COCO_IOUS, images)
    for name, values in alone.items():
        assert (together[name] is None) == (None in values)
        assert None in values or together[name] == pytest.approx(np.mean(values), abs=1e-12)
    again = matching.match(0.5)
    for name, one in match(data, found, IDS, 0.5).items():
        assert again[name].true_positive.tolist() == one.true_positive.tolist()


def test_large_random_set_equals_pycocotools():
    rng = np.random.default_rng(0)

    def box():
        return tuple(rng.integers(0, 40, 2).tolist() + rng.integers(3, 24, 2).tolist())

    objects = [(int(rng.integers(20)), int(rng.integers(2)), box()) for _ in range(150)]
    rows = []
    for image, category, (x, y, w, h) in objects * 2:
        shift = rng.normal(0, 2, 2)
        rows.append((image, category, (x + shift[0], y + shift[1], w, h), float(rng.random())))
    rows += [(3, 0, box(), float(rng.random())) for _ in range(130)]
    data, found = truth(objects, images=20), results(rows)
    mine = match(data, found, IDS)
    got = [
        average_precision(mine[n].true_positive, mine[n].object_images.size, "coco101") for n in IDS
    ]
    assert got == pytest.approx(pycocotools_ap(data, found, 0.5), abs=1e-12)
    assert 0.05 < got[0] < 0.95


@pytest.mark.parametrize("flavour", FLAVOURS)
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 30), st.integers(0, 20), st.integers(0, 999))
def test_many_sets_at_once_are_one_set_after_another(flavour, images, found, objects, seed):
    rng = np.random.default_rng(seed)
    object_images = rng.integers(images, size=objects)
    # an object is found once at most, in its own image
    hit = rng.random(objects) < 0.6
    places = np.concatenate([object_images[hit], rng.integers(images, size=found)])
    right = np.concatenate([np.ones(hit.sum(), bool), np.zeros(found, bool)])
    order = rng.permutation(right.size)
    right, places = right[order], places[order]
    sets = rng.random((7, images)) < 0.5
    values = average_precision_on(right, places, object_images, sets, flavour)
    for value, chosen in zip(values, sets, strict=True):
        one = average_precision(right[chosen[places]], chosen[object_images].sum(), flavour)
        assert np.isnan(value) if one is None else value == pytest.approx(one, abs=1e-12)


def test_many_sets_are_scored_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    right, places = rng.random(40) < 0.5, rng.integers(10, size=40)
    object_images = places[right]
    sets = rng.random((30, 10)) < 0.5
    whole = average_precision_on(right, places, object_images, sets)
    monkeypatch.setattr(ap, "LARGEST_CHUNK", 100)
    assert np.array_equal(average_precision_on(right, places, object_images, sets), whole)
    with pytest.raises(ValueError, match="unknown AP metric"):
        average_precision_on(right, places, object_images, sets, "coco")
