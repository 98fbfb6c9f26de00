"""What one task may see; counts made by hand on a data set of nine images."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clclip.core.errors import InputError
from clclip.data.index import image_root
from clclip.data.split import detection_test, detection_train, split_task
from tests.helpers.data import box, read
from tests.helpers.splits import make_task

A, B, C, D = 11, 4, 30, 7  # category ids of the classes a, b, c, d
CATEGORIES = [{"id": n, "name": name} for name, n in zip("abcd", (A, B, C, D), strict=True)]
FILES = {  # image id -> (category, flags) of its objects
    1: [(A, {})],
    2: [(A, {}), (B, {})],
    3: [(B, {}), (B, {"ignore": 1, "difficult": 1})],
    4: [(B, {}), (A, {"iscrowd": 1})],
    5: [(B, {}), (A, {"ignore": 1, "difficult": 1})],
    6: [(B, {"ignore": 1, "difficult": 1})],
    7: [(C, {}), (B, {}), (B, {"iscrowd": 1})],
    8: [],
    9: [(A, {"iscrowd": 1})],
}


def coco(files, categories=CATEGORIES):
    """Return a prepared split, written in an order that is not that of the ids."""
    images, boxes = [], []
    for number, objects in reversed(files.items()):
        images.append(
            {"id": number, "file_name": f"{number}.png", "width": 9, "height": 9, "exif": True}
        )
        for category, flags in objects:
            boxes.append(
                box(
                    len(boxes) + 1,
                    number,
                    category,
                    [1, 1, 5, 5],
                    **{"iscrowd": 0, "area": 25, **flags},
                )
            )
    return {"images": images, "annotations": boxes, "categories": categories}


def ids(split):
    return [image["id"] for image in split["images"]]


@pytest.mark.parametrize(
    ("rule", "task1", "task2", "task3"),
    [
        ("overlap", [1, 2], [2, 3, 4, 5, 7], [7]),
        ("disjoint", [1, 2], [3, 4, 5, 7], None),  # 7 belongs to b already
        ("non_cooccurrence", [1, 2], [3, 7], None),
    ],
)
def test_training_images_of_each_rule(rule, task1, task2, task3):
    for groups, expected in (
        ((["a"],), task1),
        ((["a"], ["b"]), task2),
        ((["a"], ["b"], ["c"]), task3),
    ):
        task = make_task([list(group) for group in groups], image_rule=rule)
        if expected is not None:
            assert ids(detection_train(coco(FILES), task, "x")) == expected
            continue
        with pytest.raises(InputError) as caught:
            detection_train(coco(FILES), task, "task.json")
        message = str(caught.value)
        assert "no training image for task 3 ('c')" in message and rule in message
        assert "leaves none of 1 images" in message and "data.image_rule: overlap" in message


def placed(places):
    """Return the data of FILES, its images with the places of {image id: place}."""
    data = coco(FILES)
    for image in data["images"]:
        if image["id"] in places:
            image["place"] = places[image["id"]]
    return data


def test_a_task_gets_the_images_of_its_place_and_joint_gets_all():
    """Image 7 shows classes of tasks 2 and 3; 2 shows one of task 2 but was taken at place 1."""
    data = placed({1: 1, 2: 1, 3: 2, 4: 2, 5: 1, 7: 3, 9: 2})
    rule = {"image_rule": "place"}
    found = [
        ids(detection_train(data, make_task(groups, **rule), "x"))
        for groups in ([["a"]], [["a"], ["b"]], [["a"], ["b"], ["c"]])
    ]
    assert found == [[1, 2], [3, 4], [7]]
    joint = make_task([["a"], ["b"], ["c"]], method="joint", **rule)
    assert ids(detection_train(data, joint, "x")) == [1, 2, 3, 4, 5, 7]
    assert ids(detection_test(data, make_task([["a"], ["b"]], **rule))) == list(range(1, 10))


def test_places_that_are_missing_are_told():
    task = make_task([["a"], ["b"]], image_rule="place")
    with pytest.raises(InputError, match=r"no image has a place, in data 'mine'.*\"place\": 1"):
        detection_train(coco(FILES), task, "x")
    with pytest.raises(InputError, match=r"place leaves none of 5 images.*as many places as tasks"):
        detection_train(placed({1: 1, 2: 1}), task, "x")


def test_labels_are_of_current_classes_without_difficult_with_crowds():
    train = detection_train(coco(FILES), make_task([["a"], ["b"]]), "x")
    found = [(a["image_id"], a["category_id"], a["iscrowd"]) for a in train["annotations"]]
    assert sorted(found) == [(2, B, 0), (3, B, 0), (4, B, 0), (5, B, 0), (7, B, 0), (7, B, 1)]
    assert train["categories"] == [{"id": B, "name": "b"}]
    assert [a["image_id"] for a in train["annotations"]] == sorted(
        a["image_id"] for a in train["annotations"]
    )


def test_test_split_has_all_images_and_the_flags_of_seen_classes():
    test = detection_test(coco(FILES), make_task([["b"], ["a"]]))
    assert ids(test) == list(range(1, 10))
    in_the_order_seen = [{"id": B, "name": "b"}, {"id": A, "name": "a"}]
    assert test["categories"] == in_the_order_seen
    assert {a["category_id"] for a in test["annotations"]} == {A, B}
    assert sum(a["iscrowd"] for a in test["annotations"]) == 3
    assert sum(a.get("ignore", 0) for a in test["annotations"]) == 3
    assert len(test["annotations"]) == 13  # 14 boxes, less the one of c


def test_joint_sees_the_union():
    for rule in ("overlap", "disjoint", "non_cooccurrence"):
        task = make_task([["a"], ["b"]], method="joint", image_rule=rule)
        train = detection_train(coco(FILES), task, "x")
        assert ids(train) == [1, 2, 3, 4, 5, 7]
        assert {a["category_id"] for a in train["annotations"]} == {A, B}


def store(tmp_path, kind="detection", train=None, test=None, classes="abcd", root="/somewhere"):
    """Write a prepared data set."""
    home = tmp_path / "resources/data/mine"
    home.mkdir(parents=True, exist_ok=True)
    index = {
        "id": "mine",
        "kind": kind,
        "root": root,
        "splits": {"train": "train.json", "test": "test.json"},
        "classes": list(classes),
    }
    made = {"index": index, "train": train or coco(FILES), "test": test or coco(FILES)}
    for name, value in made.items():
        (home / f"{name}.json").write_text(json.dumps(value))
    return tmp_path / "resources"


def run(tmp_path, task, resources):
    folder = tmp_path / f"results/e/seed0/task{task['task']}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.json").write_text(json.dumps(task))
    split_task(folder / "task.json", resources)
    return read(folder / "train.json"), read(folder / "test.json")


def test_files_of_a_task(tmp_path):
    resources = store(tmp_path)
    train, test = run(tmp_path, make_task([["a"], ["b"]]), resources)
    assert train["info"] == {
        "task": 2,
        "split": "train",
        "image_rule": "overlap",
        "counts": {"b": 5},
    }
    assert test["info"]["counts"] == {"a": 2, "b": 5} and test["info"]["split"] == "test"
    folder = tmp_path / "results/e/seed0/task2"
    before = [(folder / f"{split}.json").read_bytes() for split in ("train", "test")]
    run(tmp_path, make_task([["a"], ["b"]]), resources)
    assert before == [(folder / f"{split}.json").read_bytes() for split in ("train", "test")]


def test_files_of_a_task_are_the_same_wherever_the_images_lie(tmp_path):
    task = make_task([["a"]])
    made = run(tmp_path, task, store(tmp_path, root="/here"))
    assert run(tmp_path, task, store(tmp_path, root="/there")) == made
    assert image_root(task, tmp_path / "resources") == Path("/there")
    resources = store(tmp_path, root="images")
    assert image_root(task, resources) == tmp_path / "resources/data/mine/images"


LABELS = {
    "classes": ["a", "b", "c"],
    "images": [{"id": n, "file_name": f"{n}.png", "label": "abcb"[n % 4]} for n in range(8, 0, -1)],
}


def test_classification_lists(tmp_path):
    resources = store(tmp_path, "classification", LABELS, LABELS, "abc")
    task = make_task([["c"], ["b"]], kind="classification", method="seca")
    train, test = run(tmp_path, task, resources)
    assert train["classes"] == ["b"] and test["classes"] == ["c", "b"]
    assert ids(train) == [1, 3, 5, 7] and ids(test) == [1, 2, 3, 5, 6, 7]
    assert {i["label"] for i in train["images"]} == {"b"}
    assert test["info"]["counts"] == {"c": 2, "b": 4}


NO_D = {**LABELS, "classes": ["a", "b", "c", "d"]}
REFUSED = {
    "unknown class": (make_task([["a"], ["bb"]]), {}, ["class 'bb'", "'mine'", "a, b, c, d"]),
    "near miss": (
        make_task([["diningtable"]]),
        {"classes": ["dining table", "a"]},
        ["did you mean 'dining table'?"],
    ),
    "no image": (make_task([["a"], ["d"]]), {}, ["no training image for task 2 ('d')", "merged"]),
    "no label": (
        make_task([["d"]], kind="classification"),
        {"kind": "classification", "train": NO_D, "test": NO_D},
        ["no training image for task 1 ('d')", "merged with another"],
    ),
    "other kind": (make_task([["a"]], kind="classification"), {}, ["detection data for kind"]),
    "no places": (make_task([["a"]], image_rule="place"), {}, ["no image has a place"]),
    "unknown rule": (make_task([["a"]], image_rule="ovrlap"), {}, ["image rule 'ovrlap'"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_tasks_write_nothing(tmp_path, name):
    task, change, parts = REFUSED[name]
    resources = store(tmp_path, **change)
    with pytest.raises(InputError) as caught:
        run(tmp_path, task, resources)
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message
    written = sorted(p.name for p in (tmp_path / "results").rglob("*.json"))
    assert written == ["task.json"]


def test_missing_index_and_task(tmp_path):
    with pytest.raises(InputError, match=r"no such file.*task\.json"):
        split_task(tmp_path / "task.json", tmp_path)
    with pytest.raises(InputError, match=r"no such file.*index\.json"):
        run(tmp_path, make_task([["a"]]), tmp_path / "resources")


def test_names_are_exact_and_texts_play_no_part(tmp_path):
    categories = [{"id": 1, "name": "dining table"}]
    data = coco({1: [(1, {})]}, categories)
    resources = store(tmp_path, train=data, test=data, classes=["dining table"])
    task = make_task([["dining table"]], text={"dining table": "a table to dine at"})
    train, _ = run(tmp_path, task, resources)
    assert train["categories"] == categories and ids(train) == [1]


# --- properties on random data sets ---------------------------------------------------------------

flags = st.sampled_from([{}, {}, {"iscrowd": 1}, {"ignore": 1, "difficult": 1}])
random_files = st.dictionaries(
    st.integers(1, 10**6),
    st.lists(st.tuples(st.sampled_from([A, B, C, D]), flags), max_size=4),
    max_size=12,
)
streams = st.permutations("abcd").flatmap(
    lambda order: st.sampled_from(
        [[order[:1], order[1:]], [order[:2], order[2:]], [[n] for n in order]]
    )
)


def training(files, groups, **options):
    """Return the training split of each task, None where it has no image."""
    made = []
    for t in range(1, len(groups) + 1):
        task = make_task([list(g) for g in groups[:t]], **options)
        try:
            made.append(detection_train(coco(files), task, "x"))
        except InputError:
            made.append(None)
    return made


def objects_of(files):
    """Return image id -> names of its objects that are neither crowd nor ignored."""
    names = {category["id"]: category["name"] for category in CATEGORIES}
    return {number: {names[c] for c, f in objects if not f} for number, objects in files.items()}


@settings(max_examples=60, deadline=None)
@given(random_files, streams)
def test_overlap_shows_exactly_the_images_of_current_classes(files, groups):
    shown = objects_of(files)
    for group, split in zip(groups, training(files, groups), strict=True):
        expected = sorted(n for n, names in shown.items() if names & set(group))
        assert (ids(split) if split else []) == expected
        wanted = {c["id"] for c in CATEGORIES if c["name"] in group}
        assert all(a["category_id"] in wanted for a in (split or {}).get("annotations", ()))


@settings(max_examples=60, deadline=None)
@given(random_files, streams)
def test_disjoint_partitions_what_joint_sees(files, groups):
    splits = training(files, groups, image_rule="disjoint")
    each = [set(ids(split)) if split else set() for split in splits]
    assert sum(map(len, each)) == len(set().union(*each))
    assert set().union(*each) == {n for n, names in objects_of(files).items() if names}


@settings(max_examples=60, deadline=None)
@given(random_files, streams)
def test_rules_are_nested_and_later_tasks_change_nothing(files, groups):
    splits = [
        training(files, groups, image_rule=rule)
        for rule in ("non_cooccurrence", "disjoint", "overlap")
    ]
    for narrow, wide in itertools.pairwise(splits):
        for small, large in zip(narrow, wide, strict=True):
            assert set(ids(small) if small else ()) <= set(ids(large) if large else ())
    shorter = training(files, groups[:-1], image_rule="disjoint")
    assert shorter == splits[1][:-1]


def test_fractions_deal_out_images_whatever_they_show():
    files = {n: [(A, {}), (B, {})] for n in range(1, 2001)}
    options = {"image_rule": "disjoint"}
    first = detection_train(coco(files), make_task([["a"]], fractions=[0.75], **options), "x")
    second = detection_train(
        coco(files), make_task([["a"], ["b"]], fractions=[0.75, 0.25], **options), "x"
    )
    joint = make_task([["a"], ["b"]], "joint", fractions=[0.75, 0.25], **options)
    assert sorted(ids(first) + ids(second)) == ids(detection_train(coco(files), joint, "x"))
    assert len(ids(first)) + len(ids(second)) == 2000
    assert abs(len(ids(first)) - 1500) < 80  # four standard deviations
