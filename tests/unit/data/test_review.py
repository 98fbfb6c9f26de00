"""The loop of labelling: a model's boxes are added, and what a person made of them is read back."""

import copy
import json

import pytest

from clclip.core.errors import InputError
from clclip.data.readers.coco import read_coco
from clclip.data.review.corrected import corrected
from clclip.data.review.hybrid import Seen, with_boxes
from clclip.data.writers.formats import write_formats
from tests.helpers.data import box

NEW = {
    "images": [
        {"id": 4, "file_name": "new/a.jpg"},
        {"id": 9, "file_name": "new/b.jpg", "width": 40, "height": 30},
        {"id": 11, "file_name": "new/c.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        box(5, 4, 2, [0, 0, 10, 10], segmentation=[[0, 0, 1, 1]]),
        box(8, 9, 2, [0, 0, 40, 30], iscrowd=1),
    ],
    "categories": [{"id": 2, "name": "zebra"}],
}
SEEN = {
    4: Seen(["cat", "zebra", "cat"], [0.9, 0.8, 0.4],
            [[20, 10, 10, 10], [1, 1, 9, 9], [5, 0, 10, 10]], 40, 30),
    9: Seen(["dog"], [0.7], [[5, 5, 5, 5]], 40, 30),
}  # fmt: skip


def added(made):
    names = {c["id"]: c["name"] for c in made["categories"]}
    return [
        (a["image_id"], names[a["category_id"]], a["bbox"])
        for a in made["annotations"]
        if a.get("origin") == "model"
    ]


def test_what_no_label_explains_is_added():
    before = copy.deepcopy(NEW)
    made = with_boxes(NEW, SEEN)
    assert before == NEW
    # The zebra is labelled; a third of the last cat is the zebra's; the crowd explains the dog.
    assert added(made) == [(4, "cat", [20, 10, 10, 10]), (4, "cat", [5, 0, 10, 10])]
    assert made["categories"] == [{"id": 2, "name": "zebra"}, {"id": 3, "name": "cat"}]
    assert made["annotations"][:2] == NEW["annotations"]
    assert [a["id"] for a in made["annotations"]] == [5, 8, 9, 10]
    assert made["images"][0] == {"id": 4, "file_name": "new/a.jpg", "width": 40, "height": 30}
    assert added(with_boxes(NEW, SEEN, overlap=0.3)) == [(4, "cat", [20, 10, 10, 10])]


@pytest.mark.parametrize("spelling", ["caf\u00e9  cat", "cafe\u0301 cat ", " caf\u00e9 cat"])
@pytest.mark.parametrize("boxes", [[], [box(5, 4, 2, [0, 0, 10, 10])]])
def test_a_class_of_the_labels_is_known_in_another_spelling(spelling, boxes, tmp_path):
    """Else the file has the class twice, which no reader takes."""
    categories = [{"id": 2, "name": spelling}]
    image = {"id": 4, "file_name": "a.jpg", "width": 40, "height": 30}
    seen = {4: Seen(["caf\u00e9 cat"], [0.9], [[20, 10, 10, 10]], 40, 30)}
    made = with_boxes({"images": [image], "annotations": boxes, "categories": categories}, seen)
    assert made["categories"] == categories
    assert [a["category_id"] for a in made["annotations"]] == [2] * (len(boxes) + 1)
    found = read_coco(write(tmp_path / "both.json", made), tmp_path)
    assert [c["name"] for c in found.categories] == ["caf\u00e9 cat"]


@pytest.fixture
def review(tmp_path):
    """The data set as it was given away, and its tasks for Label Studio."""
    made = with_boxes(NEW, SEEN)
    write_formats(made, tmp_path, ["label-studio"], "clclip 1.0")
    return made, json.loads((tmp_path / "label_studio.json").read_text())


def reviewed(task, rows):
    """Return a task as Label Studio exports it once a person has submitted ``rows``."""
    done = {"id": 1, "was_cancelled": False, "updated_at": "2026-01-02", "result": rows}
    older = done | {"updated_at": "2026-01-01", "result": []}
    skipped = done | {"updated_at": "2026-01-03", "was_cancelled": True, "result": []}
    return task | {"annotations": [older, done, skipped]}


def rectangle(name, x, y, w, h, rotation=0):
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": rotation}
    value["rectanglelabels"] = [name]
    return {"type": "rectanglelabels", "original_width": 40, "original_height": 30, "value": value}


def ellipse(name, x, y, across, down):
    value = {"x": x, "y": y, "radiusX": across, "radiusY": down, "ellipselabels": [name]}
    return {"type": "ellipselabels", "original_width": 40, "original_height": 30, "value": value}


def bare_value(x, y, w, h):
    return {"x": x, "y": y, "width": w, "height": h, "rotation": 0}


def bare(kind, x, y, w, h):
    """Return a region that nobody has labelled."""
    return {"type": kind, "value": bare_value(x, y, w, h)}


def several(*names):
    """Return a rectangle of several labels."""
    row = rectangle(names[0], 0, 0, 5, 5)
    return row | {"value": row["value"] | {"rectanglelabels": list(names)}}


def edited(*rows):
    """Return a task of one image as a person submitted it."""
    return reviewed({"data": {"image": "a.jpg"}}, list(rows))


def other_tool(bbox):
    """Return a COCO file of one image, which was enlarged, with one box."""
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}],
        "annotations": [box(1, 1, 1, bbox)],
        "categories": [{"id": 1, "name": "cat"}],
    }


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_corrections_replace_all_boxes_of_their_image_and_of_no_other(review, tmp_path):
    made, tasks = review
    rows = tasks[0]["predictions"][0]["result"][:2]  # the zebra and a cat are right
    rows += [rectangle("lion", 50, 50, 25, 50)]  # a new word, drawn by the person
    path = write(tmp_path / "export.json", [reviewed(tasks[0], rows), tasks[1]])
    found = corrected(made, path)
    assert (found.reviewed, found.open) == (1, 1)
    names = {c["id"]: c["name"] for c in found.dataset["categories"]}
    assert names == {2: "zebra", 3: "cat", 4: "lion"}
    on = {n: [a for a in found.dataset["annotations"] if a["image_id"] == n] for n in (4, 9, 11)}
    assert [(names[a["category_id"]], a["bbox"]) for a in on[4]] == [
        ("zebra", [0, 0, 10, 10]),
        ("cat", [20, 10, 10, 10]),
        ("lion", [20, 15, 10, 15]),
    ]
    assert not any("score" in a or "origin" in a for a in on[4])
    assert on[9] == [a for a in made["annotations"] if a["image_id"] == 9] and not on[11]
    ids = [a["id"] for a in found.dataset["annotations"]]
    assert len(set(ids)) == len(ids)


def test_an_image_can_be_emptied(review, tmp_path):
    made, tasks = review
    found = corrected(made, write(tmp_path / "export.json", [reviewed(tasks[0], [])]))
    assert {a["image_id"] for a in found.dataset["annotations"]} == {9}


@pytest.mark.parametrize(
    "link",
    ["/data/upload/3/0a1b2c3d-a.jpg", "/data/local-files/?d=some/where/a.jpg", "new/a.jpg",
     "https://host/x/a.jpg?token=1", "s3://bucket/new/a.jpg"],
)  # fmt: skip
def test_the_short_export_and_links_of_any_storage(review, tmp_path, link):
    made, _ = review
    value = {"x": 50, "y": 0, "width": 50, "height": 100, "rotation": 0}
    value |= {"rectanglelabels": ["cat"], "original_width": 40, "original_height": 30}
    path = write(tmp_path / "min.json", [{"id": 1, "image": link, "label": [value]}])
    found = corrected(made, path)
    own = [a for a in found.dataset["annotations"] if a["image_id"] == 4]
    assert [a["bbox"] for a in own] == [[20, 0, 20, 30]]


def test_turned_rectangles_polygons_and_ellipses_become_upright_boxes(review, tmp_path):
    made, tasks = review
    turned = rectangle("cat", 50, 20, 25, 10, rotation=90)  # 10 x 3 px around (20, 6)
    polygon = {"type": "polygonlabels", "value": {"points": [[10, 10], [20, 30], [0, 20]],
               "polygonlabels": ["cat"]}}  # fmt: skip
    rows = [turned, polygon, ellipse("cat", 50, 50, 10, 20)]
    path = write(tmp_path / "export.json", [reviewed(tasks[0], rows)])
    boxes = [a["bbox"] for a in corrected(made, path).dataset["annotations"] if a["image_id"] == 4]
    assert boxes == [[17, 6, 3, 10], [0, 3, 8, 6], [16, 9, 8, 12]]


def test_the_annotation_changed_last_counts_beside_one_without_a_date(review, tmp_path):
    made, tasks = review
    undated = {"id": 1, "was_cancelled": False, "updated_at": None, "result": []}
    dated = undated | {"updated_at": "2026-01-02", "result": [rectangle("cat", 50, 0, 25, 50)]}
    for order in ([undated, dated], [dated, undated]):
        path = write(tmp_path / "export.json", [tasks[0] | {"annotations": order}])
        own = [a for a in corrected(made, path).dataset["annotations"] if a["image_id"] == 4]
        assert [a["bbox"] for a in own] == [[20, 0, 10, 15]]


def test_a_shape_and_its_label_in_two_rows_are_one_box(review, tmp_path):
    """Label Studio writes them so where the interface has Rectangle beside Labels."""
    made, tasks = review
    shape = bare("rectangle", 50, 0, 25, 50)
    label = {"type": "labels", "value": shape["value"] | {"labels": ["cat"]}}
    answer = {"type": "choices", "value": shape["value"] | {"choices": ["blurred"]}}
    path = write(tmp_path / "export.json", [reviewed(tasks[0], [shape, label, answer])])
    own = [a for a in corrected(made, path).dataset["annotations"] if a["image_id"] == 4]
    assert [a["bbox"] for a in own] == [[20, 0, 10, 15]]


def test_a_coco_file_of_another_tool_is_read_too(review, tmp_path):
    made, _ = review
    found = corrected(made, write(tmp_path / "cvat.json", other_tool([40, 20, 20, 20])))
    own = [a for a in found.dataset["annotations"] if a["image_id"] == 4]
    assert [(a["category_id"], a["bbox"]) for a in own] == [(3, [20, 10, 10, 10])]


@pytest.mark.parametrize(
    ("export", "told"),
    [
        ([{"data": {"image": "/x/other.jpg"}, "annotations": []}], "image '/x/other.jpg'"),
        ([{"id": 1}], "a task without an image"),
        ([3], "an object"),
        ("tasks", "no list of tasks"),
        (
            [{"image": "a.jpg", "label": [{"x": 1, "rectanglelabels": ["cat"]}]}],
            "x, y, width and height in percent",
        ),
        ([{"image": "a.jpg", "label": [{"x": 1, "rectanglelabels": [7]}]}], "class name 7"),
        ({"images": []}, "no annotations"),
        ([], "no task"),
        (
            [{"data": {"image": "a.jpg"}, "annotations": [5]}],
            r"\[5\], .*: annotations, .* a list of",
        ),
        ([{"data": {"image": "a.jpg"}, "annotations": [{"result": {"x": 1}}]}], ": result, "),
        ([{"image": "a.jpg"}, {"image": "new/a.jpg"}], "image 'new/a.jpg' a second time"),
        ([edited(rectangle("cat", 120, 0, 5, 5))], "a box with an area inside the image"),
        ([edited(rectangle("cat", 20, 10, 0, 5))], "a box with an area inside the image"),
        ([edited({"type": "brushlabels", "value": {"brushlabels": ["cat"]}})], "type brushlabels"),
        (
            [
                edited(rectangle("cat", 0, 0, 5, 5), bare("rectanglelabels", 20, 10, 5, 5))
                | {"id": 7}
            ],
            r"without a label on image 'a.jpg', .*\[0\] \(task 7\): result\[1\]",
        ),
        ([edited(bare("rectangle", 20, 10, 5, 5))], "without a label on image"),
        ([{"image": "a.jpg", "label": [bare_value(0, 0, 5, 5)]}], "without a label on image"),
        (
            [
                {
                    "image": "a.jpg",
                    "label": [rectangle("cat", 0, 0, 5, 5)["value"], bare_value(1, 0, 5, 5)],
                }
            ],
            r"without a label on image 'a.jpg', .*label\[1\]",
        ),
        ([{"image": "a.jpg", "label": [{"rle": [1], "brushlabels": ["cat"]}]}], "type brushlabels"),
        ([edited(several("cat", "dog"))], r"the labels \['cat', 'dog'\] on image 'a.jpg'"),
        ([{"image": "a.jpg", "label": [several("cat", "dog")["value"]]}], "one label a region"),
        ([edited(ellipse("cat", 5, 5, "wide", 2))], "x, y and radii in percent"),
        (other_tool([90, 20, 20, 20]), r"annotation 1, .* inside the image of 80 x 60"),
    ],
)
def test_bad_exports_are_told_in_one_line(review, tmp_path, export, told):
    with pytest.raises(InputError, match=told) as error:
        corrected(review[0], write(tmp_path / "export.json", export))
    assert "\n" not in str(error.value)
