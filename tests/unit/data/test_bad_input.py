"""Bad data sets: one line with what, where and what would be right; old outputs stay."""

import shutil

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import data_version, declared_classes, prepare
from tests.helpers.data import CATEGORIES, TEST, TRAIN, box, edited, make_coco, save_image

HUGE = 2**60


def train(*path, value):
    return edited(TRAIN, *path, value=value)


def without(data, *path):
    """Return a copy of ``data`` without the key at ``path``."""
    copied = edited(data, *path, value=None)
    target = copied
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    return copied


# name -> (training json, parts of the message)
ANNOTATIONS = {
    "empty file": ("", ["not JSON", "train.json"]),
    "half a file": ('{"images": [{"id": 1', ["not JSON", "train.json"]),
    "list": ([1], ["a list", "COCO object"]),
    "nested": ("[" * 100_000, ["nested too deeply"]),
    "no annotations": (without(TRAIN, "annotations"), ["no annotations", "a list 'annotations'"]),
    "misspelt key": (
        {"image": [], "annotations": [], "categories": CATEGORIES},
        ["no images (did you mean 'image'?)"],
    ),
    "images is an object": (train("images", value={}), ["an object as images"]),
    "image is a number": (train("images", 0, value=3), ["images[0]", "object"]),
    "image without id": (without(TRAIN, "images", 1, "id"), ["no id", "images[1].id", "integer"]),
    "image id as text": (
        train("images", 1, "id", value="5"),
        ["id '5'", "images[1].id", "a number, not text"],
    ),
    "image id as float": (train("images", 1, "id", value=5.5), ["id 5.5", "images[1].id"]),
    "image id true": (train("images", 1, "id", value=True), ["id true", "images[1].id"]),
    "image id too large": (train("images", 1, "id", value=HUGE), [str(HUGE), "images[1].id"]),
    "image id twice": (
        train("images", 2, "id", value=12),
        ["duplicate id 12 (also images[0])", "images[2].id"],
    ),
    "no file name": (without(TRAIN, "images", 0, "file_name"), ["no file_name", "images[0]"]),
    "empty file name": (train("images", 0, "file_name", value=""), ["file name ''", "images[0]"]),
    "file name with NUL": (
        train("images", 0, "file_name", value="a\0b"),
        ["file name 'a\\x00b'", "images[0].file_name"],
    ),
    "file name half a letter": (
        train("images", 0, "file_name", value="\ud800.png"),
        ["file name '\\ud800.png'", "UTF-8"],
    ),
    "file name absolute": (
        train("images", 0, "file_name", value="/etc/passwd"),
        ["leaves the image folder", "images[0].file_name"],
    ),
    "file name upwards": (
        train("images", 0, "file_name", value="x/../../a.png"),
        ["leaves the image folder", "images[0].file_name"],
    ),
    "file name too long": (train("images", 0, "file_name", value="x" * 5000), ["xxx"]),
    "width as text": (
        train("images", 0, "width", value="40"),
        ["width '40'", "images[0].width", "a number, not text"],
    ),
    "width negative": (train("images", 0, "width", value=-40), ["width -40", "positive"]),
    "width broken": (train("images", 0, "width", value=40.5), ["width 40.5", "whole number"]),
    "annotation id twice": (
        train("annotations", 2, "id", value=101),
        ["duplicate id 101 (also annotations[0])", "annotations[2].id"],
    ),
    "annotation without id": (without(TRAIN, "annotations", 2, "id"), ["no id", "annotations[2]"]),
    "missing image": (
        train("annotations", 1, "image_id", value=999),
        ["image_id 999", "not in images", "annotations[1].image_id", "annotation 102"],
    ),
    "image id as a list": (train("annotations", 1, "image_id", value=[5]), ["image_id [5]"]),
    "missing category": (
        train("annotations", 1, "category_id", value=4),
        ["category_id 4", "not in categories", "annotations[1].category_id"],
    ),
    "no category id": (without(TRAIN, "annotations", 0, "category_id"), ["no category_id"]),
    "no box": (without(TRAIN, "annotations", 0, "bbox"), ["no box", "annotations[0].bbox"]),
    "three numbers": (train("annotations", 0, "bbox", value=[1, 2, 3]), ["[1, 2, 3]", "four"]),
    "box of text": (train("annotations", 0, "bbox", value=[1, 2, "3", 4]), ["'3'", "four"]),
    "box of null": (train("annotations", 0, "bbox", value=[1, 2, None, 4]), ["null", "four"]),
    "crowd 2": (train("annotations", 0, "iscrowd", value=2), ["iscrowd 2", "0 or 1"]),
    "box outside": (
        train("annotations", 0, "bbox", value=[30, 2, 20, 5]),
        ["10 px outside its image of 40 x 30", "annotations[0].bbox (id 101)", "on_bad_box: clip"],
    ),
    "box NaN": (train("annotations", 0, "bbox", value=[float("nan"), 2, 2, 5]), ["not finite"]),
    "box zero": (train("annotations", 0, "bbox", value=[1, 2, 0, 5]), ["no positive width"]),
    "box negative": (train("annotations", 0, "bbox", value=[9, 2, -3, 5]), ["no positive width"]),
    "no categories": (train("categories", value=[]), ["no category", "at least one class"]),
    "category id twice": (
        train("categories", 2, "id", value=3),
        ["duplicate id 3 (also categories[0])", "categories[2].id"],
    ),
    "category name twice": (
        train("categories", 2, "name", value="cat"),
        ["duplicate class name 'cat' (also categories[0])", "categories[2].name"],
    ),
    "category name twice but for a space": (
        train("categories", 2, "name", value=" cat "),
        ["duplicate class name 'cat' (also categories[0])", "categories[2].name"],
    ),
    "category name blank": (train("categories", 0, "name", value=" "), ["class name ' '"]),
    "category name null": (train("categories", 0, "name", value=None), ["class name null"]),
    "category name newline": (train("categories", 0, "name", value="a\nb"), ["control characters"]),
    "clash of ids between splits": (
        {**TEST, "categories": [{"id": 7, "name": "bear"}]},
        ["id 7 is 'dog' here and 'bear' in the other split", "test.json"],
    ),
    "clash of names between splits": (
        {
            "images": TRAIN["images"],
            "annotations": [box(101, 5, 8, [1, 2, 10, 10])],
            "categories": [{"id": 8, "name": "dog"}],
        },
        ["class 'dog' has id 7 here and 8 in the other split"],
    ),
    "wrong size": (train("images", 1, "height", value=31), ["40 x 31 recorded", "(id 5)"]),
    "no images": ({"images": [], "annotations": [], "categories": CATEGORIES}, ["no train image"]),
}


@pytest.fixture
def outputs(tmp_path):
    """Outputs of an earlier run, and their bytes."""
    good = make_coco(tmp_path / "good")
    prepare(good, tmp_path / "out")
    return {path: path.read_bytes() for path in sorted((tmp_path / "out").iterdir())}


def refused(spec, out):
    """Return the one-line message that ``prepare`` refuses ``spec`` with."""
    with pytest.raises(InputError) as caught:
        prepare(spec, out)
    message = str(caught.value)
    assert "\n" not in message and ", in " in message and ", expected " in message
    return message


def check_untouched(outputs, out):
    assert {path: path.read_bytes() for path in sorted(out.iterdir())} == outputs


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_bad_annotations(tmp_path, outputs, name):
    document, parts = ANNOTATIONS[name]
    message = refused(make_coco(tmp_path / "bad", document), tmp_path / "out")
    assert [part for part in parts if part not in message] == [], message
    check_untouched(outputs, tmp_path / "out")


def _truncate(path):
    path.write_bytes(path.read_bytes()[:60])


def _to_folder(path):
    path.unlink()
    path.mkdir()


IMAGES = {
    "missing": (lambda path: path.unlink(), ["no such image"]),
    "truncated": (_truncate, ["broken image"]),
    "empty": (lambda path: path.write_bytes(b""), ["broken image"]),
    "text": (lambda path: path.write_text("hello"), ["broken image"]),
    "a folder": (_to_folder, ["is not a file"]),
    "other size": (lambda path: save_image(path, (41, 30)), ["41 x 30", "40 x 30 recorded"]),
}


@pytest.mark.parametrize("name", IMAGES)
def test_bad_images(tmp_path, outputs, name):
    damage, parts = IMAGES[name]
    spec = make_coco(tmp_path / "bad")
    damage(tmp_path / "bad/images/a.png")
    message = refused(spec, tmp_path / "out")
    assert "a.png" in message and "images[1] (id 5)" in message
    assert [part for part in parts if part not in message] == [], message
    check_untouched(outputs, tmp_path / "out")


SPECS = {
    "no root": ({"root": "/no/such/folder"}, ["/no/such/folder", "data.root"]),
    "no image folder": ({"images": "pictures"}, ["no image folder", "data.images"]),
    "no json": ({"train": "tarin.json"}, ["no such file", "tarin.json"]),
    "json is a folder": ({"train": "images"}, ["cannot be read", "images"]),
    "no test": ({"test": None}, ["no test annotations", "data.test"]),
    "no format": ({"format": "kitti"}, ["format 'kitti'", "voc, yolo, folder or cifar100"]),
    "exif of no kind": ({"exif": "maybe"}, ["exif 'maybe'", "data.exif", "apply or ignore"]),
    "links of no kind": ({"links": "some"}, ["links 'some'", "follow or refuse"]),
    "bad boxes of no kind": ({"on_bad_box": "drop"}, ["on_bad_box 'drop'", "fail or clip or"]),
    "no download": ({"download": True}, ["download of format 'coco'", "voc or cifar100"]),
}


@pytest.mark.parametrize("name", SPECS)
def test_bad_specs(tmp_path, outputs, name):
    change, parts = SPECS[name]
    spec = {**make_coco(tmp_path / "bad"), **change}
    message = refused(spec, tmp_path / "out")
    assert [part for part in parts if part not in message] == [], message
    check_untouched(outputs, tmp_path / "out")


@pytest.mark.parametrize("name", ["half a file", "image id twice", "category name blank"])
def test_the_version_refuses_what_cannot_be_read(tmp_path, name):
    document, parts = ANNOTATIONS[name]
    with pytest.raises(InputError) as caught:
        data_version(make_coco(tmp_path, document))
    assert parts[0] in str(caught.value)


def test_not_utf8(tmp_path):
    spec = make_coco(tmp_path)
    (tmp_path / "train.json").write_bytes(b'{"images": "\xff\xfe"}')
    assert "not JSON" in refused(spec, tmp_path / "out")


def test_a_byte_order_mark_is_no_fault(tmp_path):
    spec = make_coco(tmp_path)
    first = declared_classes(spec)
    path = tmp_path / "train.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert declared_classes(spec) == first
    prepare(spec, tmp_path / "out")


def test_images_of_a_removed_folder(tmp_path):
    spec = make_coco(tmp_path)
    del spec["images"]
    shutil.rmtree(tmp_path / "images")
    assert "no such image" in refused(spec, tmp_path / "out")


def test_a_class_that_only_the_test_split_has_is_declared(tmp_path):
    test = {**TEST, "categories": [*CATEGORIES, {"id": 1, "name": "emu"}]}
    test["annotations"] = [box(1, 1, 1, [2, 2, 5, 5])]
    prepare(make_coco(tmp_path, TRAIN, test), tmp_path / "out")
