"""Detections in the files of other tools, read back by this package's own readers."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import prepare
from clclip.data.review.label_studio import read_tasks
from clclip.data.writers.formats import FORMATS, chosen_formats, write_formats
from tests.helpers.data import box, read, save_image

NAMES = {3: "cat", 90: "dining table", 7: 'king: "é" #1'}


def dataset(root):
    """Write three images, two of one name, and return detections on them."""
    names = ["a/photo.jpg", "b/photo.jpg", "b/empty.jpg"]
    for name in names:
        save_image(root / name)
    images = [{"id": n, "file_name": str(root / name), "width": 40, "height": 30}
              for n, name in enumerate(names, 1)]  # fmt: skip
    boxes = [box(1, 1, 3, [1, 2, 10, 10], score=0.9), box(2, 1, 7, [20, 2, 20, 28], score=0.5)]
    boxes += [box(3, 2, 90, [0, 0, 40, 30], score=0.3)]
    categories = [{"id": number, "name": name} for number, name in NAMES.items()]
    return {"images": images, "annotations": boxes, "categories": categories}


@pytest.fixture
def written(tmp_path):
    found = dataset(tmp_path / "images")
    write_formats(found, tmp_path / "out", list(FORMATS), "clclip 1.0")
    return tmp_path, found


def told(split):
    """Return {stem of the file: [(class, box)]} of an indexed split."""
    names = {c["id"]: c["name"] for c in split["categories"]}
    stems = {i["id"]: i["file_name"].rpartition("/")[2].partition(".")[0] for i in split["images"]}
    found = {stem: [] for stem in stems.values()}
    for entry in split["annotations"]:
        found[stems[entry["image_id"]]].append((names[entry["category_id"]], entry["bbox"]))
    return found


EXPECTED = {
    "photo": [("cat", [1, 2, 10, 10]), (NAMES[7], [20, 2, 20, 28])],
    "photo-2": [("dining table", [0, 0, 40, 30])],
    "empty": [],
}


def place_images(root, folder):
    for stem in EXPECTED:
        save_image(root / "out" / folder / f"{stem}.jpg")


def test_yolo_reads_back(written):
    root, _ = written
    place_images(root, "yolo/images")
    prepare({"format": "yolo", "root": str(root / "out/yolo")}, root / "indexed")
    found = told(read(root / "indexed/train.json"))
    assert found.keys() == EXPECTED.keys()
    for stem, boxes in EXPECTED.items():
        assert [name for name, _ in found[stem]] == [name for name, _ in boxes]
        for (_, got), (_, wanted) in zip(found[stem], boxes, strict=True):
            assert got == pytest.approx(wanted, abs=1e-4)
    assert read(root / "indexed/index.json")["classes"] == list(NAMES.values())


def test_voc_reads_back(written):
    root, _ = written
    place_images(root, "voc/JPEGImages")
    spec = {"format": "voc", "root": str(root / "out/voc"), "train": "default", "test": "default"}
    prepare(spec, root / "indexed")
    assert told(read(root / "indexed/train.json")) == EXPECTED
    page = ElementTree.parse(root / "out/voc/Annotations/photo.xml").getroot()
    assert page.findtext("object/score") == "0.9" and page.findtext("size/width") == "40"


def test_voc_boxes_stay_inside_and_have_a_pixel(tmp_path):
    found = dataset(tmp_path / "images")
    found["annotations"] = [box(1, 1, 3, [-0.4, 29.8, 0.3, 0.3]), box(2, 1, 3, [39.9, 0, 0.3, 9])]
    write_formats(found, tmp_path / "out", ["voc"], "x")
    page = ElementTree.parse(tmp_path / "out/voc/Annotations/photo.xml").getroot()
    corners = [[int(c.text) for c in node] for node in page.iter("bndbox")]
    assert corners == [[1, 30, 1, 30], [40, 1, 40, 9]]


def test_label_studio_reads_back_with_scores(written):
    root, found = written
    path = root / "out/label_studio.json"
    tasks = json.loads(path.read_text())
    assert [task["id"] for task in tasks] == [1, 2, 3]
    rows = tasks[0]["predictions"][0]
    assert rows["model_version"] == "clclip 1.0" and rows["score"] == 0.5
    assert [row["score"] for row in rows["result"]] == [0.9, 0.5]
    assert "score" not in tasks[2]["predictions"][0]
    read_back = read_tasks(tasks, path)
    assert not any(task.reviewed for task in read_back)
    name, x, y, w, h = read_back[0].boxes[1]
    assert name == NAMES[7] and (x, y, w, h) == pytest.approx((0.5, 2 / 30, 0.5, 28 / 30))
    assert found["images"][0]["file_name"] in read_back[0].names


def test_formats_are_chosen_by_name():
    assert chosen_formats(None) == chosen_formats("coco") == []
    assert chosen_formats("yolo, voc,yolo") == ["yolo", "voc"]
    with pytest.raises(InputError, match=r"format 'yol' \(did you mean 'yolo'\?\), in --format"):
        chosen_formats("voc,yol")
