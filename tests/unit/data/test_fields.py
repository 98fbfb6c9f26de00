"""Values that tools write in their own way, and words of messages about them."""

import json
import math
import shutil

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import declared_classes, prepare
from clclip.workflow.describe import describe
from tests.helpers.data import TEST, TRAIN, box, edited, make_coco, read, save_image
from tests.helpers.voc import FILES, LISTS, make_voc, thing


def train(*path, value):
    return edited(TRAIN, *path, value=value)


def message(spec, tmp_path):
    """Return what ``prepare`` says of a bad data set."""
    with pytest.raises(InputError) as caught:
        prepare(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize("unknown", [-1, 0, -1.0, 0.0, None])
@pytest.mark.parametrize("keys", [("width", "height"), ("height",)])
def test_a_size_of_minus_1_is_unknown(tmp_path, monkeypatch, unknown, keys):
    monkeypatch.chdir(tmp_path)
    data = TRAIN
    for key in keys:
        data = edited(data, "images", 1, key, value=unknown)
    spec = make_coco(tmp_path, data)
    told = {"kind": "detection", "method": "fvit", "data": spec, "tasks": [["dog"]]}
    (tmp_path / "mine.yaml").write_text(json.dumps(told))
    line = "size not recorded, that of the file used: 'a.png'"
    assert line in describe("mine.yaml")["warnings"]
    prepare(spec, tmp_path / "out")
    image = next(i for i in read(tmp_path / "out/train.json")["images"] if i["id"] == 5)
    assert (image["width"], image["height"]) == (40, 30)
    assert line in read(tmp_path / "out/index.json")["warnings"]


@pytest.mark.parametrize("width", ["-1", "0", "", " ", "-1.0"])
def test_a_voc_size_of_minus_1_is_unknown(tmp_path, width):
    size = f"<size><width>{width}</width><height>{width}</height></size>"
    make_voc(tmp_path, FILES, LISTS, size=size)
    prepare({"format": "voc", "root": str(tmp_path)}, tmp_path / "out")
    assert read(tmp_path / "out/train.json")["images"][0]["width"] == 40


@pytest.mark.parametrize("size", [-2, 0.5, math.nan, math.inf])
def test_other_sizes_are_no_sizes(tmp_path, size):
    assert "a positive whole number" in message(
        make_coco(tmp_path, train("images", 0, "width", value=size)), tmp_path
    )


def test_whole_floats_are_ids_everywhere(tmp_path):
    """As pandas writes them."""
    text = json.dumps(TRAIN)
    for key in ("id", "image_id", "category_id", "iscrowd", "width", "height"):
        for number in range(120):
            text = text.replace(f'"{key}": {number},', f'"{key}": {number}.0,')
            text = text.replace(f'"{key}": {number}}}', f'"{key}": {number}.0}}')
    assert '"id": 12.0' in text and '"category_id": 3.0' in text
    prepare(make_coco(tmp_path / "a"), tmp_path / "plain")
    prepare(make_coco(tmp_path / "b", text), tmp_path / "out")
    for split in ("train", "test"):
        found, plain = ((tmp_path / f / f"{split}.json").read_bytes() for f in ("out", "plain"))
        assert found == plain


@pytest.mark.parametrize("number", [5.5, math.nan, math.inf, True, [5]])
@pytest.mark.parametrize(
    "path", [("images", 1, "id"), ("annotations", 0, "image_id"), ("annotations", 0, "category_id")]
)
def test_what_is_no_whole_number_is_no_id(tmp_path, path, number):
    said = message(make_coco(tmp_path, train(*path, value=number)), tmp_path)
    assert f"{path[0]}[{path[1]}].{path[2]}" in said and "number, not text" not in said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("images", 1, "id"), "5"),
        (("annotations", 0, "image_id"), "5"),
        (("annotations", 0, "category_id"), "3"),
        (("categories", 0, "id"), "3"),
        (("images", 0, "width"), "40"),
        (("annotations", 0, "iscrowd"), "0"),
    ],
)
def test_text_in_place_of_a_number_is_told_as_such(tmp_path, path, value):
    said = message(make_coco(tmp_path, train(*path, value=value)), tmp_path)
    assert f"'{value}'" in said and "expected a number, not text" in said


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize(
    ("value", "word"), [(None, "null"), ({}, "an object"), (3, "a number"), ("x", "a text")]
)
def test_json_is_told_in_json_words(tmp_path, key, value, word):
    said = message(make_coco(tmp_path, {**TRAIN, key: value}), tmp_path)
    assert f"{word} as {key}, in" in said and "NoneType" not in said and "did you mean" not in said


@pytest.mark.parametrize("blank", ["", " ", "\n\t", None])
def test_a_blank_difficult_is_0(tmp_path, blank):
    made = thing("dog", difficult=blank if blank is not None else "")
    made = made if blank is not None else made.replace("<difficult></difficult>", "<difficult/>")
    make_voc(tmp_path, {**FILES, "000005": [made]}, LISTS)
    prepare({"format": "voc", "root": str(tmp_path)}, tmp_path / "out")
    assert not any(b.get("difficult") for b in read(tmp_path / "out/train.json")["annotations"])
    flags = box(101, 5, 3, [1, 2, 10, 10]) | {"iscrowd": blank, "ignore": blank}
    prepare(make_coco(tmp_path / "c", {**TRAIN, "annotations": [flags]}), tmp_path / "coco")
    assert read(tmp_path / "coco/train.json")["annotations"][0]["iscrowd"] == 0


BAD_BOXES = [[], [1, 2, 3], [1, 2, 3, 4, 5], "1 2 3 4", None, {}, [1, 2, None, 4], [1, 2, "3", 4]]


@pytest.mark.parametrize("bad", [*BAD_BOXES, [1, 2, True, 4], [[1, 2, 3, 4]], "missing"])
def test_every_bad_box_is_skipped_on_request(tmp_path, monkeypatch, bad):
    monkeypatch.chdir(tmp_path)
    wrong = box(77, 5, 3, bad)
    if bad == "missing":
        del wrong["bbox"]
    data = {**TRAIN, "annotations": [wrong, *TRAIN["annotations"][1:]]}
    spec = make_coco(tmp_path / "data", data)
    told = {"kind": "detection", "method": "fvit", "data": spec, "tasks": [["dog"]]}
    for look in (
        lambda: message(spec, tmp_path),
        lambda: declared_classes(spec) and "",
    ):
        try:
            said = look()
        except InputError as error:
            said = str(error)
        assert "annotations[0].bbox" in said and "four numbers" in said and "on_bad_box" in said
    for choice in ("skip", "clip"):
        prepare({**spec, "on_bad_box": choice}, tmp_path / choice)
        index = read(tmp_path / choice / "index.json")
        assert [(s["kind"], s["id"]) for s in index["skipped"]] == [("box", 77)]
        assert "not four numbers" in index["skipped"][0]["reason"]
        boxes = read(tmp_path / choice / "train.json")["annotations"]
        assert [b["id"] for b in boxes] == [102, 103, 104, 105]
        (tmp_path / "mine.yaml").write_text(
            json.dumps(told | {"data": {**spec, "on_bad_box": choice}})
        )
        assert any("1 bad boxes left out" in w for w in describe("mine.yaml")["warnings"])


@pytest.mark.parametrize(
    "box_xml",
    ["", "<bndbox/>", "<bndbox><xmin>1</xmin></bndbox>", "<bndbox><xmin>a</xmin></bndbox>"],
)
def test_every_bad_voc_box_is_skipped_on_request(tmp_path, box_xml):
    bad = f"<object><name>dog</name>{box_xml}</object>"
    make_voc(tmp_path, {**FILES, "000005": [bad, thing("dog")]}, LISTS)
    spec = {"format": "voc", "root": str(tmp_path)}
    assert "object[0].bndbox." in message(spec, tmp_path)
    prepare({**spec, "on_bad_box": "skip"}, tmp_path / "out")
    assert read(tmp_path / "out/index.json")["counts"]["skipped_boxes"] == 1


# --- images below a class folder ------------------------------------------------------------------

NESTED = {
    "one folder": "images/{}.png",
    "folders of two levels": "2024/may/{}.png",
    "some below, some not": "{}.png",
    "named like an image": "day.png/{}.png",
}


@pytest.mark.parametrize("name", NESTED)
def test_images_below_a_class_folder_are_its_images(tmp_path, name):
    root = tmp_path / "data"
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            for k in range(3):
                save_image(root / split / label / NESTED[name].format(k), (8, 6))
            save_image(root / split / label / "extra/x.png", (8, 6))
            for junk in (".hidden", "__MACOSX", "@eaDir", "extra/.thumbs", ".ipynb_checkpoints"):
                save_image(root / split / label / junk / "y.png", (8, 6))
            save_image(root / split / label / "extra/._x.png", (8, 6))
            (root / split / label / "notes").mkdir()
            (root / split / label / "notes/boxes.txt").write_text("x")
        save_image(root / split / "__MACOSX/z.png", (8, 6))
    spec = {"format": "folder", "root": str(root)}
    prepare(spec, tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    assert index["classes"] == ["cat", "dog"] and index["counts"]["train"] == 8
    assert index["counts"]["classes"]["test"] == {"cat": 4, "dog": 4}
    names = [i["file_name"] for i in read(tmp_path / "out/train.json")["images"]]
    assert "train/cat/extra/x.png" in names and names == sorted(names)
    assert "'cat/notes/boxes.txt'" in " ".join(index["warnings"])


# --- absolute names -------------------------------------------------------------------------------


def absolute(root, data, folder):
    """Return a COCO document whose file names are absolute paths."""
    copied = json.loads(json.dumps(data))
    for image in copied["images"]:
        image["file_name"] = str(root / folder / image["file_name"])
    return copied


@pytest.mark.parametrize("folder", ["images", "pictures", "."])
@pytest.mark.parametrize("through", ["data", "alias"])
def test_absolute_names_inside_the_image_folder(tmp_path, folder, through):
    root = tmp_path / "data"
    spec = make_coco(root)
    prepare(spec, tmp_path / "plain")
    if folder != "images":
        for path in (root / "images").iterdir():
            (root / folder).mkdir(exist_ok=True)
            shutil.move(path, root / folder / path.name)
    (tmp_path / "alias").symlink_to(root)
    for split, data in (("train", TRAIN), ("test", TEST)):
        made = absolute(tmp_path / through, data, folder)
        (root / f"{split}.json").write_text(json.dumps(made))
    prepare(spec | {"root": str(tmp_path / through), "images": folder}, tmp_path / "out")
    for split in ("train", "test"):
        assert read(tmp_path / f"out/{split}.json") == read(tmp_path / f"plain/{split}.json")


@pytest.mark.parametrize("name", ["{0}/secret.png", "{0}/data/images/../../x.png", "/etc/x.png"])
def test_absolute_names_elsewhere_are_refused(tmp_path, name):
    save_image(tmp_path / "secret.png")
    spec = make_coco(
        tmp_path / "data", train("images", 1, "file_name", value=name.format(tmp_path))
    )
    assert "leaves the image folder" in message(spec, tmp_path)


@pytest.mark.parametrize("suffix", ["", ".jpg", ".png"])
def test_absolute_names_in_a_voc_list(tmp_path, suffix):
    lists = {
        key: text.replace("0000", f"{tmp_path}/JPEGImages/0000") for key, text in LISTS.items()
    }
    lists = {key: text.replace("\n", f"{suffix}\n") for key, text in lists.items()}
    make_voc(tmp_path, FILES, lists, suffix=suffix or ".jpg")
    prepare({"format": "voc", "root": str(tmp_path)}, tmp_path / "out")
    assert read(tmp_path / "out/index.json")["counts"]["train"] == 2
