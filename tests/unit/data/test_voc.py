"""The VOC reader on hand-made devkits; counts made by hand."""

import shutil

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import declared_classes, prepare
from clclip.data.readers.voc import VOC_CLASSES
from tests.helpers.data import read, save_image
from tests.helpers.voc import FILES, LISTS, SIZE, make_voc, thing


@pytest.fixture
def devkit(tmp_path):
    make_voc(tmp_path / "VOCdevkit/VOC2007", FILES, LISTS)
    return {"format": "voc", "root": str(tmp_path), "year": "2007"}


def test_boxes_ids_and_difficult(tmp_path, devkit):
    prepare(devkit, tmp_path / "out")
    index, train = read(tmp_path / "out/index.json"), read(tmp_path / "out/train.json")
    assert index["classes"] == VOC_CLASSES and len(VOC_CLASSES) == 20
    assert index["root"] == str(tmp_path / "VOCdevkit/VOC2007/JPEGImages")
    assert [(i["id"], i["file_name"]) for i in train["images"]] == [
        (12, "000012.jpg"),
        (5, "000005.jpg"),
    ]
    dog, chair, person = train["annotations"]
    # Pixels count from 1 and the maximum belongs to the box: the whole image is [0, 0, 40, 30].
    assert dog["bbox"] == [0, 0, 40, 30] and dog["category_id"] == VOC_CLASSES.index("dog") + 1
    assert chair["bbox"] == [2, 3, 10, 6] and chair["area"] == 60 and "ignore" not in chair
    assert person["ignore"] == 1 and person["difficult"] == 1
    counts = index["counts"]["classes"]
    assert {k: v for k, v in counts["train"].items() if v} == {"chair": 1, "dog": 1}
    assert sum(counts["test"].values()) == 0  # its one object is difficult
    missing = "class without test instances (2 times, first: 'chair')"
    assert index["warnings"] == [missing]  # of the other 18 nobody asked


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_root_may_be_the_devkit_or_above_or_below(tmp_path, devkit, below):
    prepare({**devkit, "root": str(tmp_path / below)}, tmp_path / "out")
    assert read(tmp_path / "out/index.json")["counts"]["train"] == 2


def test_per_class_lists_stand_for_a_missing_list(tmp_path):
    lists = {
        "dog_train": "000012  1\n000005 -1\n",
        "chair_train": "000012 -1\n000005  1\n",
        "dog_trainval": "000007  0\n",
        "dog_val": "000007  0\n",
    }
    make_voc(tmp_path, FILES, lists)
    prepare({"format": "voc", "root": str(tmp_path), "year": "2012"}, tmp_path / "out")
    assert [i["id"] for i in read(tmp_path / "out/train.json")["images"]] == [12, 5]
    assert [i["id"] for i in read(tmp_path / "out/test.json")["images"]] == [7]


def test_own_classes_names_and_suffixes(tmp_path):
    files = {"my dog 1": [thing("räd <b>".replace("<b>", "&lt;b&gt;"))], "é": [thing("axle")]}
    make_voc(tmp_path, files, {"train": "my dog 1\n", "val": "é\n"}, suffix=".png")
    spec = {"format": "voc", "root": str(tmp_path)}
    prepare(spec, tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    assert index["classes"] == ["axle", "räd <b>"] == declared_classes(spec)
    assert read(tmp_path / "out/train.json")["images"][0]["file_name"] == "my dog 1.png"


def test_names_with_suffixes_images_in_sub_folders_and_other_files_beside_them(tmp_path):
    files = {"a/one": [thing("axle")], "two.v1": [thing("axle")], "three": [thing("axle")]}
    (tmp_path / "Annotations/a").mkdir(parents=True)
    make_voc(tmp_path, files, {"train": "a/one.png\ntwo.v1\n", "val": "three.PNG\n"}, suffix=".PNG")
    (tmp_path / "JPEGImages/three").mkdir()
    for name in ("a/one", "three"):
        (tmp_path / f"JPEGImages/{name}.json").write_text("a note")
        shutil.copy(tmp_path / f"Annotations/{name}.xml", tmp_path / f"JPEGImages/{name}.xml")
    spec = {"format": "voc", "root": str(tmp_path)}
    prepare(spec, tmp_path / "out")
    names = [i["file_name"] for i in read(tmp_path / "out/train.json")["images"]]
    assert names == ["a/one.PNG", "two.v1.PNG"]
    assert [i["file_name"] for i in read(tmp_path / "out/test.json")["images"]] == ["three.PNG"]
    save_image(tmp_path / "JPEGImages/a/one.jpg")
    with pytest.raises(InputError, match=r"two images 'a/one.PNG' and 'one.jpg', in .*/a, "):
        prepare(spec, tmp_path / "out")


def test_size_zero_means_not_recorded(tmp_path):
    size = "<size><width>0</width><height>0</height></size>"
    make_voc(tmp_path, FILES, LISTS, size=size)
    prepare({"format": "voc", "root": str(tmp_path)}, tmp_path / "out")
    image = read(tmp_path / "out/train.json")["images"][0]
    assert (image["width"], image["height"]) == (40, 30)
    assert "size not recorded" in " ".join(read(tmp_path / "out/index.json")["warnings"])


def test_boxes_from_zero_are_clipped(tmp_path):
    make_voc(tmp_path, {**FILES, "000005": [thing("cat", (0, 0, 9, 9))]}, LISTS)
    prepare({"format": "voc", "root": str(tmp_path)}, tmp_path / "out")
    found = [a["bbox"] for a in read(tmp_path / "out/train.json")["annotations"]]
    assert found == [[0, 0, 40, 30], [0, 0, 9, 9]]


def bad(objects="", **change):
    return {"objects": objects, **change}


CASES = {
    "not xml": (bad(xml="<annotation><object>"), ["not XML", "000005.xml"]),
    "not utf-8": (bad(xml=b"<annotation>\xff</annotation>"), ["not XML", "000005.xml"]),
    "other root": (bad(xml="<svg/>"), ["root element <svg>", "<annotation>"]),
    "entities": (
        bad(xml='<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'),
        ["DOCTYPE or ENTITY", "000005.xml"],
    ),
    "entities in UTF-16": (
        bad(xml='<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'.encode("utf-16")),
        ["DOCTYPE or ENTITY", "000005.xml"],
    ),
    "no name": (bad("<object><bndbox/></object>"), ["class name ''", "object[0].name"]),
    "no corner": (
        bad("<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>"),
        ["nothing", "object[0].bndbox.ymin"],
    ),
    "corner as word": (bad(thing("dog", (1, "two", 3, 4))), ["'two'", "object[0].bndbox.ymin"]),
    "corner of Python's": (bad(thing("dog", (1, "2_0", 30, 40))), ["'2_0'", "bndbox"]),
    "corner NaN": (bad(thing("dog", (1, "nan", 3, 4))), ["not finite", "object[0].bndbox"]),
    "corners exchanged": (bad(thing("dog", (9, 1, 3, 4))), ["no positive width", "object[0]"]),
    "corners one off": (bad(thing("dog", (9, 1, 8, 4))), ["no positive width", "object[0]"]),
    "outside": (bad(thing("dog", (9, 1, 60, 4))), ["20 px outside", "object[0].bndbox"]),
    "difficult 1.5": (bad(thing("dog", difficult="1.5")), ["difficult '1.5'", "0 or 1"]),
    "difficult 2": (bad(thing("dog", difficult=2)), ["difficult '2'", "0 or 1"]),
    "size as word": (bad(xml="<annotation><size><width>x</width></size></annotation>"), ["'x'"]),
    "wrong size": (
        bad(xml=f"<annotation>{SIZE.replace('40', '50')}</annotation>"),
        ["50 x 30 recorded", "000005.xml"],
    ),
    "no xml": (bad(xml=None), ["no such file", "000005.xml"]),
    "listed twice": (bad(lists={"trainval": "000005\n000005\n"}), ["listed twice", "line 2"]),
    "empty list": (bad(lists={"trainval": "\n \n"}), ["no image", "trainval.txt"]),
    "leaves": (bad(lists={"trainval": "../x\n"}), ["leaves the image folder", "line 1"]),
    "unknown list": (
        bad(spec={"train": "trainvall"}),
        ["no image list 'trainvall' (did you mean 'trainval'?)"],
    ),
    "unknown year": (bad(spec={"year": 1999}), ["no VOC1999", "expected VOCdevkit/VOC1999/"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_voc(tmp_path, name):
    case, parts = CASES[name]
    files = {**FILES, "000005": [case["objects"] or thing("dog")]}
    make_voc(tmp_path / "VOC2007", files, {**LISTS, **case.get("lists", {})})
    if "xml" in case:
        path, text = tmp_path / "VOC2007/Annotations/000005.xml", case["xml"]
        path.unlink()
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        prepare({"format": "voc", "root": str(tmp_path), **case.get("spec", {})}, tmp_path / "out")
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message and not (tmp_path / "out").exists()


def test_two_years_need_a_choice_and_two_suffixes_of_a_listed_image_are_refused(tmp_path):
    for year in (2007, 2012):
        make_voc(tmp_path / f"VOC{year}", FILES, LISTS)
    spec = {"format": "voc", "root": str(tmp_path)}
    with pytest.raises(InputError, match=r"VOC2007, VOC2012.*data.year"):
        prepare(spec, tmp_path / "out")
    save_image(tmp_path / "VOC2012/JPEGImages/000005.png")
    with pytest.raises(InputError, match=r"two images '000005.jpg' and '000005.png'"):
        prepare({**spec, "year": 2012}, tmp_path / "out")


def test_download_is_asked_of_torchvision_and_not_repeated(tmp_path, monkeypatch):
    import torchvision.datasets

    calls = []

    def fake(root, year, image_set, download):
        calls.append((year, image_set, download))
        make_voc(tmp_path / "new/VOCdevkit/VOC2007", FILES, LISTS)

    monkeypatch.setattr(torchvision.datasets, "VOCDetection", fake)
    spec = {"format": "voc", "root": str(tmp_path / "new"), "year": "2007", "download": True}
    devkit, asked = tmp_path / "new/VOCdevkit/VOC2007", 0
    # nothing there; then all; then what an interrupted download may leave
    for part in ("", None, "ImageSets/Main/test.txt", "JPEGImages/000007.jpg", "Annotations"):
        if part == "Annotations":
            shutil.rmtree(devkit / part)
        elif part:
            (devkit / part).unlink()
        prepare(spec, tmp_path / "out")
        asked += part is not None
        assert calls == [("2007", "trainval", True), ("2007", "test", True)] * asked
        assert read(tmp_path / "out/index.json")["counts"]["train"] == 2

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "VOCDetection", offline)
    with pytest.raises(
        InputError, match=r"could not be downloaded \(no route to host\).*a network"
    ):
        prepare({**spec, "root": str(tmp_path / "newer")}, tmp_path / "out")
