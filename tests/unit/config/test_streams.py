"""Streams as data: sizes, orders and text names, against the published tables and the worlds."""

import pytest

from clclip.config.streams import stream, streams
from clclip.core.errors import InputError
from clclip.data.shapes.worlds import world_spec

STEPS = {
    "10_10": [10, 10],
    "15_5": [15, 5],
    "19_1": [19, 1],
    "10_5_5": [10, 5, 5],
    "5_5_5_5": [5, 5, 5, 5],
    "10_2x5": [10, 2, 2, 2, 2, 2],
    "15_1x5": [15, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("name", list(streams()))
def test_every_stream_partitions_its_classes(name):
    shipped = stream(name)
    declared = [f"class {k}" for k in range(200)]
    groups = shipped.groups(0, declared)
    assert [len(group) for group in groups] == list(shipped.sizes)
    flat = [c for group in groups for c in group]
    assert len(flat) == len(set(flat)) == sum(shipped.sizes)
    assert set(shipped.text) <= set(shipped.classes)
    assert all(isinstance(c, str) and c == c.strip() for c in flat)


@pytest.mark.parametrize(("steps", "sizes"), STEPS.items())
@pytest.mark.parametrize("family", ["voc", "shapes"])
def test_step_names_mean_their_sizes(family, steps, sizes):
    assert list(stream(f"{family}_{steps}").sizes) == sizes


def test_voc_is_alphabetical_and_known_groups_stand_where_papers_put_them():
    classes = stream("voc_10_10").classes
    assert list(classes) == sorted(classes) and len(classes) == 20
    assert stream("voc_10_5_5").groups(0)[1] == [
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
    ]
    assert stream("voc_19_1").groups(0)[1] == ["tvmonitor"]
    assert stream("voc_10_10").text["diningtable"] == "dining table"


def test_both_four_task_splits_of_coco():
    a, b = stream("coco_4task_a"), stream("coco_4task_b")
    assert a.sizes == (19, 21, 20, 20) and b.sizes == (20, 20, 20, 20)
    assert set(a.classes) == set(b.classes) == set(stream("coco_40_40").classes)
    assert a.groups(0)[2] == b.groups(0)[2]  # both have the same third task
    assert {"person", "couch", "tv", "dining table"} <= set(b.groups(0)[0])  # the VOC classes
    assert stream("coco_70_10").groups(0)[1][0] == "toaster"  # category ids 70-79
    assert stream("coco_40_20_20").groups(0)[1][0] == "wine glass"


@pytest.mark.parametrize("name", ["shapes_10_10", "shapes80_4task", "shapes_cil_8x5"])
def test_generated_worlds_declare_the_classes(name):
    world = {"shapes_10_10": "shapes20", "shapes80_4task": "shapes80"}.get(name, "shapes_cil")
    assert list(stream(name).classes) == world_spec(world)["classes"]


def test_seeded_order_is_fixed_by_the_seed_alone():
    shipped = stream("shapes_cil_8x5")
    assert shipped.groups(3) == shipped.groups(3) != shipped.groups(4)
    # stored, so that another Python or platform would be noticed
    assert shipped.groups(0)[0] == FIRST_GROUP


FIRST_GROUP = ["blue star", "blue circle", "blue heart", "blue ring", "blue diamond"]


def test_unknown_stream_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'voc_10_10'"):
        stream("voc_10_1O")


def test_too_few_classes_in_the_data():
    with pytest.raises(InputError, match="at least 200"):
        stream("imagenet_r_10x20").groups(0, ["one", "two"])


def test_the_classification_stream_holds_shapes_of_one_colour_in_an_order_of_the_seed():
    shipped = stream("shapes_cil_8x5")
    orders = [shipped.groups(seed) for seed in range(4)]
    for groups in orders:
        assert [len(group) for group in groups] == [5] * 8
        assert all(len({name.split()[0] for name in group}) == 1 for group in groups)
        assert len({name for group in groups for name in group}) == 40
    assert shipped.groups(2) == orders[2]
    assert len({str(groups) for groups in orders}) == 4
    assert len({str([group[0].split()[0] for group in groups]) for groups in orders}) > 1
