"""Indexing a COCO data set: what is kept, clipped, skipped and warned of; counts made by hand."""

import copy
import json
import logging
import math
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clclip.core.errors import InputError
from clclip.data.checks.boxes import clip_box, fault
from clclip.data.images import load_rgb
from clclip.data.prepare import declared_classes, prepare
from clclip.data.readers.coco import read_coco
from clclip.workflow.describe import describe
from tests.helpers.data import ROTATE_90, TEST, TRAIN, box, edited, make_coco, read, save_image


def with_boxes(*boxes):
    return {**TRAIN, "annotations": list(boxes)}


def test_index_keeps_ids_and_counts(tmp_path):
    prepare({**make_coco(tmp_path), "id": "mine-1"}, tmp_path / "out")
    index, train = read(tmp_path / "out/index.json"), read(tmp_path / "out/train.json")
    assert index["id"] == "mine-1" and index["kind"] == "detection" and index["format"] == "coco"
    assert index["root"] == str(tmp_path / "images")
    assert index["classes"] == ["cat", "dog", "dining table"]  # in the order of the ids
    assert index["counts"]["train"] == 3 and index["counts"]["test"] == 1
    # By hand: the crowd (104) and the ignored box (105) do not count.
    assert index["counts"]["classes"]["train"] == {"cat": 1, "dog": 2, "dining table": 0}
    assert index["counts"]["boxes"] == {"train": 5, "test": 1}
    assert index["warnings"] == [
        "class without train instances: 'dining table'",
        "class without test instances (2 times, first: 'cat')",
    ]
    assert {i["id"]: i["file_name"] for i in train["images"]} == {
        12: "c.png",
        5: "a.png",
        9: "b.png",
    }
    assert {c["id"]: c["name"] for c in train["categories"]} == {
        3: "cat",
        7: "dog",
        90: "dining table",
    }
    by_id = {a["id"]: a for a in train["annotations"]}
    assert by_id[101]["area"] == 80 and by_id[102]["area"] == 100
    assert by_id[104]["iscrowd"] == 1 and by_id[105]["ignore"] == 1


def test_places_of_images_are_kept_where_they_are_whole_numbers_from_1(tmp_path):
    places = {5: 2, 9: "Rome", 12: 0}
    images = [{**image, "place": places[image["id"]]} for image in TRAIN["images"]]
    prepare(make_coco(tmp_path, train={**TRAIN, "images": images}), tmp_path / "out")
    kept = {i["id"]: i.get("place") for i in read(tmp_path / "out/train.json")["images"]}
    assert kept == {5: 2, 9: None, 12: None}


def test_result_is_the_same_twice_and_images_stay_where_they_are(tmp_path):
    spec = make_coco(tmp_path / "data")
    texts = []
    for out in ("one", "two"):
        prepare({**spec, "id": "x"}, tmp_path / out)
        names = ("index.json", "train.json", "test.json", "contents.json")
        texts.append([(tmp_path / out / name).read_text() for name in names])
        assert sorted(p.name for p in (tmp_path / out).iterdir()) == sorted(names)
    assert texts[0] == texts[1]


def test_two_pixels_of_overhang_are_clipped_and_counted(tmp_path):
    boxes = with_boxes(box(1, 5, 3, [-2, 20, 10, 12]), box(2, 5, 7, [31, 0, 9.0000001, 5]))
    prepare(make_coco(tmp_path, boxes), tmp_path / "out")
    train, index = read(tmp_path / "out/train.json"), read(tmp_path / "out/index.json")
    assert (
        train["annotations"][0]["bbox"] == [0, 20, 8, 10] and train["annotations"][0]["area"] == 80
    )
    assert train["annotations"][1]["bbox"] == [31, 0, 9, 5]
    assert index["counts"]["clipped_boxes"] == 1
    assert "1 boxes clipped at the border of their image" in index["warnings"]


@pytest.mark.parametrize(
    ("bad", "clipped"),
    [
        ([30, 5, 20, 10], [30, 5, 10, 10]),
        ([-10, -10, 20, 20], [0, 0, 10, 10]),
        ([100, 5, 20, 10], None),
        ([5, 5, 0, 10], None),
        ([5, 5, -3, 10], None),
        ([float("nan"), 5, 3, 10], None),
        ([5, 5, float("inf"), 10], None),
        ([1e308, 5, 1e308, 10], None),
        ([41, 5, 1, 10], None),  # within the tolerance, but nothing of it is in the image
        ([10**400, 5, 1, 10], None),
    ],
)
def test_bad_boxes_fail_or_are_clipped_or_skipped(tmp_path, bad, clipped):
    good = box(2, 5, 7, [1, 1, 5, 5])
    spec = make_coco(tmp_path, with_boxes(box(77, 5, 3, bad), good))
    with pytest.raises(
        InputError, match=r"train.json: annotations\[0\].bbox \(id 77\).*on_bad_box"
    ):
        prepare(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for choice, expected in (("skip", None), ("clip", clipped)):
        prepare({**spec, "on_bad_box": choice}, tmp_path / choice)
        index, train = (
            read(tmp_path / choice / "index.json"),
            read(tmp_path / choice / "train.json"),
        )
        found = {a["id"]: a["bbox"] for a in train["annotations"]}
        assert found.pop(2) == [1, 1, 5, 5]
        assert found == ({} if expected is None else {77: expected})
        skipped = [(s["kind"], s["id"], s["file_name"]) for s in index["skipped"]]
        assert skipped == ([("box", 77, "a.png")] if expected is None else [])
        assert index["counts"]["skipped_boxes"] == (expected is None)


def test_annotation_id_zero_is_shifted_for_all(tmp_path):
    prepare(
        make_coco(tmp_path, with_boxes(box(0, 5, 3, [1, 1, 5, 5]), box(4, 5, 7, [1, 1, 5, 5]))),
        tmp_path / "o",
    )
    assert [a["id"] for a in read(tmp_path / "o/train.json")["annotations"]] == [1, 5]
    assert any("annotation ids" in line for line in read(tmp_path / "o/index.json")["warnings"])


def test_bad_image_is_skipped_with_its_boxes_and_listed(tmp_path, caplog):
    spec = make_coco(tmp_path)
    (tmp_path / "images/a.png").write_bytes((tmp_path / "images/a.png").read_bytes()[:50])
    (tmp_path / "images/c.png").unlink()
    with pytest.raises(
        InputError, match=r"no such image.*images\[0\] \(id 12\).*on_bad_image: skip"
    ):
        prepare(spec, tmp_path / "out")
    with caplog.at_level(logging.WARNING):
        prepare({**spec, "on_bad_image": "skip"}, tmp_path / "out")
    index, train = read(tmp_path / "out/index.json"), read(tmp_path / "out/train.json")
    assert [i["id"] for i in train["images"]] == [9]
    assert {a["image_id"] for a in train["annotations"]} == {9}
    assert [(s["split"], s["file_name"], s["id"]) for s in index["skipped"]] == [
        ("train", "c.png", 12),
        ("train", "a.png", 5),
    ]
    assert index["counts"]["skipped_images"] == 2
    assert "2 bad images left out" in caplog.text


def test_nothing_left_after_skipping_is_an_error(tmp_path):
    spec = make_coco(tmp_path)
    (tmp_path / "images/t.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no test image.*test\.json"):
        prepare({**spec, "on_bad_image": "skip"}, tmp_path / "out")


def test_turned_image_follows_the_recorded_size(tmp_path):
    data = edited(with_boxes(box(1, 5, 3, [0, 0, 9, 9])), "images", 1, "width", value=30)
    data = edited(data, "images", 1, "height", value=40)  # a.png recorded upright
    spec = make_coco(tmp_path, data)
    save_image(tmp_path / "images/a.png", (40, 30), ROTATE_90)  # drawn on the turned view
    save_image(tmp_path / "images/b.png", (40, 30), ROTATE_90)  # drawn on stored pixels
    prepare(spec, tmp_path / "out")
    images = {i["file_name"]: i for i in read(tmp_path / "out/train.json")["images"]}
    assert (images["a.png"]["exif"], images["a.png"]["width"], images["a.png"]["height"]) == (
        True,
        30,
        40,
    )
    assert (images["b.png"]["exif"], images["b.png"]["width"], images["b.png"]["height"]) == (
        False,
        40,
        30,
    )
    for name, image in images.items():  # the loader, told the same, gives the recorded size
        size = load_rgb(tmp_path / "images" / name, exif=image["exif"]).size
        assert size == (image["width"], image["height"])


def test_size_that_no_view_has_is_an_error(tmp_path):
    data = edited(TRAIN, "images", 1, "width", value=64)
    spec = make_coco(tmp_path, data)
    with pytest.raises(
        InputError, match=r"'a.png': 64 x 30 recorded.*images\[1\] \(id 5\).*width 40"
    ):
        prepare(spec, tmp_path / "out")
    prepare({**spec, "on_bad_image": "skip"}, tmp_path / "out")
    assert read(tmp_path / "out/index.json")["skipped"][0]["file_name"] == "a.png"


def test_odd_file_names_and_animations(tmp_path):
    names = ["a b.png", 'it\'s "x".png', "日本\né.png"]
    data = copy.deepcopy(TRAIN)
    for image, name in zip(data["images"], names, strict=True):
        image["file_name"] = name
        save_image(tmp_path / "images" / name)
    spec = make_coco(tmp_path, data)
    prepare(spec, tmp_path / "out")
    assert [i["file_name"] for i in read(tmp_path / "out/train.json")["images"]] == names


def test_image_in_both_splits_is_a_warning(tmp_path):
    test = edited(TEST, "images", 0, "file_name", value="a.png")
    prepare(make_coco(tmp_path, TRAIN, test), tmp_path / "out")
    assert "image in train and in test: 'a.png'" in read(tmp_path / "out/index.json")["warnings"]


# --- random input ---------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-3, 50),
    st.floats(-5, 60),
    st.sampled_from([math.nan, math.inf, 1e308, 10**400, 10**5000]),
)
junk = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=5), st.lists(numbers, max_size=5)
)
ids = st.one_of(st.integers(0, 4), junk)


def objects(**fields):
    return st.lists(
        st.one_of(st.fixed_dictionaries(fields), st.dictionaries(st.text(max_size=3), junk), junk),
        max_size=4,
    )


annotations = objects(
    id=ids,
    image_id=ids,
    category_id=ids,
    bbox=st.one_of(st.lists(numbers, max_size=5), junk),
    iscrowd=junk,
)
images = objects(id=ids, file_name=st.one_of(st.text(max_size=6), junk), width=junk, height=junk)
categories = objects(id=ids, name=st.one_of(st.text(max_size=4), junk))
documents = st.one_of(
    junk,
    st.fixed_dictionaries({"images": images, "annotations": annotations, "categories": categories}),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents)
def test_random_json_is_read_or_refused(tmp_path, document):
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    (tmp_path / "x.json").write_text(json.dumps(document))
    sys.set_int_max_str_digits(limit)
    try:
        split = read_coco(tmp_path / "x.json", tmp_path)
    except InputError as error:
        assert "\n" not in str(error) and "expected" in str(error)
        return
    known = {image["id"] for image in split.images}
    assert all(a["image_id"] in known and len(a["bbox"]) == 4 for a in split.annotations)
    assert len({c["name"] for c in split.categories}) == len(split.categories) > 0


@given(st.lists(st.floats(), min_size=4, max_size=4), st.integers(1, 60), st.integers(1, 60))
def test_boxes_without_fault_end_inside_their_image(numbers, width, height):
    if fault(numbers, width, height) is None:
        (x, y, w, h), overhang = clip_box(numbers, width, height)
        assert 0 <= x < x + w <= width + 1e-9 and 0 <= y < y + h <= height + 1e-9 and overhang <= 2


@given(st.integers(0, 30), st.integers(0, 20), st.integers(1, 10), st.integers(1, 10))
def test_boxes_inside_are_left_alone(x, y, w, h):
    assert fault([x, y, w, h], 40, 30) is None
    assert clip_box([x, y, w, h], 40, 30) == ([x, y, w, h], 0)


@pytest.mark.parametrize("lacking", ["train", "test"])
def test_a_class_that_one_split_does_not_declare_is_one_without_instances(tmp_path, lacking):
    data = {"train": TRAIN, "test": TEST}
    rest = [entry for entry in TRAIN["categories"] if entry["name"] != "dining table"]
    data[lacking] = {**data[lacking], "categories": rest}
    prepare(make_coco(tmp_path, data["train"], data["test"]), tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    for split in ("train", "test"):
        assert index["counts"]["classes"][split]["dining table"] == 0
        declared = read(tmp_path / f"out/{split}.json")["categories"]
        assert sorted(entry["id"] for entry in declared) == [3, 7, 90]
    assert "class without train instances: 'dining table'" in index["warnings"]


def test_spaces_at_the_ends_of_a_class_name_are_dropped(tmp_path):
    data = edited(TRAIN, "categories", 0, "name", value="cat ")
    spec = make_coco(tmp_path, data)
    assert declared_classes(spec) == ["cat", "dog", "dining table"]
    prepare(spec, tmp_path / "out")
    assert read(tmp_path / "out/index.json")["counts"]["classes"]["train"]["cat"] == 1
    told = {"kind": "detection", "method": "clclip", "data": spec, "tasks": [["cat"], ["dog"]]}
    (tmp_path / "mine.yaml").write_text(json.dumps(told))
    assert [task["images"] for task in describe(str(tmp_path / "mine.yaml"))["tasks"]] == [
        1,
        2,
    ]  # no crowds
