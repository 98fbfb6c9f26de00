"""Labels of boxes in the gallery: no two lie over each other, whatever is shown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clclip.report.sections.gallery import LABEL_SIZE, Box, labelled
from clclip.report.sections.labels import ASCENT, DESCENT, LETTER, Label, placed

SIDE = 128
FONT = SIDE * LABEL_SIZE


def area(text, at, font=FONT):
    x, y = at
    return x, y - ASCENT * font, x + LETTER * font * len(text), y + DESCENT * font


def apart(a, b):
    return a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_a_lone_label_stands_above_its_box_and_stays_in_the_image():
    [at] = placed([Label("red star", (40, 50, 20, 20), 0)], (SIDE, SIDE), FONT)
    assert at == pytest.approx((40, 50 - DESCENT * FONT))
    for box in ((0, 0, 9, 9), (120, 120, 8, 8), (-3, 60, 200, 30)):
        [at] = placed([Label("yellow triangle 0.95", box, 0)], (SIDE, SIDE), FONT)
        x0, y0, x1, y1 = area("yellow triangle 0.95", at)
        assert x0 >= 0 and y0 >= 0 and x1 <= SIDE and y1 <= SIDE


def test_a_label_goes_elsewhere_or_away_where_a_better_one_stands():
    same = (40, 50, 20, 20)
    labels = [Label("second", same, 0.5), Label("first one", same, 0.1)]
    second, first = placed(labels, (SIDE, SIDE), FONT)
    assert first == pytest.approx((40, 50 - DESCENT * FONT)) and second is not None
    assert apart(area("second", second), area("first one", first))
    crowd = placed([Label("wide " * 20, same, rank) for rank in range(9)], (SIDE, SIDE), FONT)
    assert crowd[0] is not None and crowd.count(None) >= 4


boxes = st.lists(
    st.builds(
        lambda x, y, w, h, name, score, state: Box(
            x, y, w, h, name, None if state == "truth" else score, state
        ),
        st.floats(-2, 120),
        st.floats(-2, 120),
        st.floats(1, 60),
        st.floats(1, 60),
        st.sampled_from(["red star", "yellow triangle", "blue cross"]),
        st.floats(0.05, 1),
        st.sampled_from(["right", "wrong", "object", "truth"]),
    ),
    max_size=30,
)


def test_a_detection_shown_at_once_comes_before_a_missed_object_of_equal_place():
    missed = Box(0.0, 0.0, 1.0, 1.0, "red star", 0.25, "object")
    shown = Box(0.0, 0.0, 1.0, 1.0, "red star", 0.5, "right")
    weaker = Box(0.0, 0.0, 1.0, 1.0, "red star", 0.49, "right")
    alone = labelled([shown], (SIDE, SIDE))[0].at
    assert labelled([missed, weaker, shown], (SIDE, SIDE))[2].at == alone
    assert labelled([weaker, missed], (SIDE, SIDE))[1].at == labelled([missed], (SIDE, SIDE))[0].at


@settings(max_examples=60, deadline=None)
@given(boxes)
def test_no_two_labels_overlap_and_weaker_boxes_move_none(found):
    made = labelled(found, (SIDE, SIDE))
    areas = [area(box.label, box.at) for box in made if box.at]
    assert all(apart(a, b) for k, a in enumerate(areas) for b in areas[:k])
    sure = [b for b in found if b.state in ("right", "wrong") and b.score >= 0.5]
    alone = [box.at for box in labelled(sure, (SIDE, SIDE))]
    assert alone == [b.at for b in made if b.state in ("right", "wrong") and b.score >= 0.5]
