"""The YOLO reader on the layouts that tools document, written by hand; counts made by hand."""

from pathlib import Path

import pytest

from clclip.core.errors import InputError
from clclip.data.labelled import read_labelled
from clclip.data.prepare import data_version, declared_classes, prepare
from clclip.data.preview import preview
from tests.helpers.data import read, save_image

NAMES_MAP = "names:\n  0: cat\n  1: dog\n  2: king bird\n"
NAMES_LIST = "nc: 3\nnames: ['cat', 'dog', 'king bird']\n"
NAMES_TEXT = "cat\ndog\nking bird\n"
A = "0 0.5 0.5 0.5 0.5\n2 0.1 0.1 0.3 0.1 0.2 0.4\n"  # a box, and a triangle
C = "1 0.25 0.5 0.5 1\n"
# of images of 40 x 30 px; a.jpg has two objects, b.jpg none, c.jpg one
TRAIN = [(0, [10, 7.5, 20, 15]), (2, [4, 3, 8, 9])]
TEST = [(1, [0, 0, 20, 30])]

# tool -> text files, images
LAYOUTS = {
    "Ultralytics": (
        {
            "data.yaml": f"path: ../datasets/birds\ntrain: images/train\nval: images/val\n"
            f"test: # none\n{NAMES_MAP}",
            "labels/train/a.txt": A,
            "labels/train/b.txt": "",
            "labels/val/c.txt": C,
        },
        ["images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg"],
    ),
    "Ultralytics, list of folders, path of another machine": (
        {
            "birds.yaml": f"path: /home/me/birds\ntrain: [images/one, images/two]\n"
            f"val: /home/me/birds/images/three\n{NAMES_MAP}",
            "labels/one/a.txt": A,
            "labels/three/c.txt": C,
        },
        ["images/one/a.jpg", "images/two/b.jpg", "images/three/c.jpg"],
    ),
    "Roboflow": (
        {
            "data.yaml": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
            f"{NAMES_LIST}roboflow:\n  workspace: me\n",
            "README.roboflow.txt": "birds",
            "train/labels/a_jpg.rf.1f.txt": A.rstrip(),
            "train/labels/b_jpg.rf.2f.txt": "",
            "valid/labels/c_jpg.rf.3f.txt": C,
        },
        [
            "train/images/a_jpg.rf.1f.jpg",
            "train/images/b_jpg.rf.2f.jpg",
            "valid/images/c_jpg.rf.3f.jpg",
        ],
    ),
    "Ultralytics, lists of images": (
        {
            "data.yaml": "path: /content/birds\ntrain: train.txt\nval: lists/val.txt\n"
            f"{NAMES_LIST}",
            "train.txt": "./images/train/a.jpg\n/content/birds/images/train/b.jpg\n",
            "lists/val.txt": "../images/val/c.jpg\n",
            "labels/train/a.txt": A,
            "labels/val/c.txt": C,
        },
        ["images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg"],
    ),
    "Ultralytics on Windows": (
        {
            "data.yaml": f"path: C:\\data\\birds\ntrain: images\\train\nval: images\\val\n"
            f"{NAMES_MAP}",
            "labels/train/a.txt": A.replace("\n", "\r\n"),
            "labels/val/c.txt": "\ufeff" + C,
        },
        ["images/train/a.JPG", "images/train/b.JPEG", "images/val/c.PNG"],
    ),
    "Roboflow Darknet": (
        {
            "train/_darknet.labels": NAMES_TEXT,
            "valid/_darknet.labels": NAMES_TEXT,
            "train/a.txt": A,
            "train/b.txt": "",
            "valid/c.txt": C,
        },
        ["train/a.jpg", "train/b.jpg", "valid/c.jpg"],
    ),
    "labelImg": (
        {
            "train/classes.txt": NAMES_TEXT,
            "val/classes.txt": NAMES_TEXT,
            "train/a.txt": A,
            "val/c.txt": C,
        },
        ["train/a.jpg", "train/b.jpg", "val/c.jpg"],
    ),
    "CVAT Ultralytics": (
        {
            "data.yaml": f"path: .\ntrain: train.txt\nval: val.txt\n{NAMES_MAP}",
            "train.txt": "data/images/train/a.jpg\ndata/images/train/b.jpg\n",
            "val.txt": "images/val/c.jpg\n",
            "labels/train/a.txt": A.replace("0.5 0.5 0.5 0.5", "0.5 0.5 0.5 0.5 17"),  # a track
            "labels/val/c.txt": C,
        },
        ["images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg"],
    ),
    "CVAT YOLO 1.1": (
        {
            "obj.data": "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\n"
            "names = data/obj.names\nbackup = backup/\n",
            "obj.names": NAMES_TEXT,
            "train.txt": "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n",
            "valid.txt": "data/obj_valid_data/c.jpg\n",
            "obj_train_data/a.txt": A,
            "obj_train_data/b.txt": "",
            "obj_valid_data/c.txt": C,
        },
        ["obj_train_data/a.jpg", "obj_train_data/b.jpg", "obj_valid_data/c.jpg"],
    ),
    "Label Studio, split by hand": (
        {
            "classes.txt": NAMES_TEXT,
            "notes.json": '{"categories": []}',
            "labels/train/a.txt": A,
            "labels/train/b.txt": "",
            "labels/val/c.txt": C,
        },
        ["images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg"],
    ),
    "labels beside the images": (
        {"data.yaml": f"train: train\nval: val\n{NAMES_LIST}", "train/a.txt": A, "val/c.txt": C},
        ["train/a.jpg", "train/b.jpg", "val/c.jpg"],
    ),
}


def make(root, files, images, size=(40, 30)):
    """Write text files and images; return the data spec."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in images:
        save_image(root / name, size)
    return {"format": "yolo", "root": str(root)}


def objects(split):
    return [(box["category_id"], box["bbox"]) for box in split["annotations"]]


@pytest.mark.parametrize("tool", LAYOUTS)
def test_every_tool_s_export_reads_alike(tmp_path, tool):
    spec = make(tmp_path / "birds", *LAYOUTS[tool])
    prepare(spec, tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    assert index["classes"] == declared_classes(spec) == ["cat", "dog", "king bird"]
    assert index["root"] == spec["root"] and index["counts"]["train"] == 2
    found = {split: read(tmp_path / f"out/{split}.json") for split in ("train", "test")}
    assert objects(found["train"]) == TRAIN and objects(found["test"]) == TEST
    names = [image["file_name"] for split in found.values() for image in split["images"]]
    assert sorted(names) == sorted(LAYOUTS[tool][1])
    told = preview(spec | {"id": "x"}, "here", tmp_path / "none")
    assert {s: objects(split) for s, split in told.items()} == {"train": TRAIN, "test": TEST}


ULTRALYTICS = LAYOUTS["Ultralytics"]


def changed(**files):
    return {**ULTRALYTICS[0], **{name.replace("__", "/"): text for name, text in files.items()}}


def test_a_label_studio_export_is_split_by_a_fraction(tmp_path):
    images = [f"images/{n}.jpg" for n in range(10)]
    labels = {f"labels/{n}.txt": C for n in range(10)}
    spec = make(tmp_path / "d", {"classes.txt": NAMES_TEXT, **labels}, images)
    with pytest.raises(InputError, match=r"no val or test split, .*data\.test_fraction"):
        prepare(spec, tmp_path / "out")
    drawn = []
    for seed in (0, 1):
        chosen = spec | {"test_fraction": 0.3, "split_seed": seed}
        prepare(chosen, tmp_path / f"out{seed}")
        parts = [read(tmp_path / f"out{seed}/{s}.json")["images"] for s in ("train", "test")]
        names = [[image["file_name"] for image in part] for part in parts]
        assert [len(part) for part in names] == [7, 3] and sorted(names[0] + names[1]) == images
        drawn.append(names[1])
    assert drawn[0] != drawn[1]


def test_one_labelled_set_is_val_or_else_all_there_is(tmp_path):
    """What ``clclip calibrate --data`` reads."""
    spec = make(tmp_path / "val", *LAYOUTS["Roboflow"])
    assert objects(read_labelled(Path(spec["root"])).dataset) == TEST
    only = {"data.yaml": f"val: images/val\n{NAMES_MAP}", "labels/val/c.txt": C}
    make(tmp_path / "only", only, ["images/val/c.jpg"])
    assert objects(read_labelled(tmp_path / "only/data.yaml").dataset) == TEST
    whole = {"classes.txt": NAMES_TEXT, "labels/a.txt": A, "labels/c.txt": C}
    make(tmp_path / "whole", whole, ["images/a.jpg", "images/c.jpg"])
    assert objects(read_labelled(tmp_path / "whole").dataset) == TRAIN + TEST


@pytest.mark.parametrize("folder", [True, False])
def test_an_export_without_its_images_is_refused(tmp_path, folder):
    """Label Studio's, of images that it only links to."""
    files = {"classes.txt": NAMES_TEXT, "notes.json": "{}", "labels/1f-a.txt": A}
    spec = make(tmp_path / "d", files | ({"images/.keep": ""} if folder else {}), [])
    with pytest.raises(InputError, match=r"1 label files and no image, .*copy them into images/"):
        prepare(spec | {"test_fraction": 0.5}, tmp_path / "out")


def test_any_split_can_be_the_test_split(tmp_path):
    spec = make(tmp_path / "d", *LAYOUTS["Roboflow"])
    make(tmp_path / "d", {"test/labels/t.txt": "0 .5 .5 1 1\n"}, ["test/images/t.jpg"])
    for test in ("test", "test/images"):
        prepare(spec | {"test": test}, tmp_path / "out")
        assert objects(read(tmp_path / "out/test.json")) == [(0, [0, 0, 40, 30])]
    prepare(spec, tmp_path / "out")
    kinds = "\n".join(read(tmp_path / "out/index.json")["warnings"])
    assert "split that is not read: 'test'" in kinds


def test_rotated_boxes_and_key_points(tmp_path):
    files = changed(labels__val__c="", labels__train__b="")
    files["labels/train/a.txt"] = "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n"
    spec = make(tmp_path / "obb", files, ULTRALYTICS[1])
    prepare(spec, tmp_path / "out")
    assert objects(read(tmp_path / "out/train.json")) == [(0, [4, 3, 32, 24])]
    files["data.yaml"] += "kpt_shape: [2, 3]\n"
    files["labels/train/a.txt"] = "0 0.5 0.5 0.5 0.5 .1 .1 2 .2 .2 0\n"
    spec = make(tmp_path / "pose", files, ULTRALYTICS[1])
    prepare(spec, tmp_path / "out")
    assert objects(read(tmp_path / "out/train.json")) == TRAIN[:1]


def test_fractions_are_of_the_turned_view_unless_exif_is_ignored(tmp_path):
    spec = make(tmp_path / "d", *ULTRALYTICS)
    save_image(tmp_path / "d/images/train/a.jpg", (40, 30), orientation=6)
    for exif, whole in ((None, [7.5, 10, 15, 20]), ("ignore", [10, 7.5, 20, 15])):
        prepare(spec | ({"exif": exif} if exif else {}), tmp_path / "out")
        assert objects(read(tmp_path / "out/train.json"))[0] == (0, whole)


def test_the_view_of_fractions_is_told_as_what_it_is(tmp_path):
    spec = make(tmp_path / "d", *ULTRALYTICS)
    save_image(tmp_path / "d/images/train/a.jpg", (40, 30), orientation=6)
    prepare(spec, tmp_path / "out")
    (line,) = [w for w in read(tmp_path / "out/index.json")["warnings"] if "EXIF" in w]
    assert "applied to one image" in line and "fractions" in line and "recorded" not in line


@pytest.mark.parametrize("names", ["king bird", "' cat'", "''", "null", "5", "a\\u200bb", "ok"])
def test_a_class_that_no_label_uses_never_blocks(tmp_path, names):
    quoted = f'"{names}"' if "u200b" in names else names
    text = f"train: images/train\nval: images/val\nnames: [{quoted}, cat, {quoted}, dog]\n"
    files = changed(data__yaml="")
    del files["data/yaml"]
    files |= {"data.yaml": text, "labels/train/a.txt": "1 .5 .5 .5 .5\n"}
    files |= {"labels/val/c.txt": "3 .5 .5 .5 .5\n"}
    spec = make(tmp_path / "d", files, ULTRALYTICS[1])
    prepare(spec, tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    assert {"cat", "dog"} <= set(index["classes"])
    assert objects(read(tmp_path / "out/train.json")) == [(1, [10, 7.5, 20, 15])]
    noted = [line for line in index["warnings"] if "category without annotations" in line]
    assert len(noted) == 1 and "index" in noted[0]  # of one good name the second is left out


def test_odd_things_are_told(tmp_path):
    files = changed(labels__train__z="0 .5 .5 .1 .1")
    files = {
        name.replace("z", "z.txt") if name.endswith("z") else name: t for name, t in files.items()
    }
    files["labels/train/a.txt"] = A + A
    del files["labels/train/b.txt"]
    spec = make(tmp_path / "d", files, ULTRALYTICS[1])
    prepare(spec, tmp_path / "out")
    told = "\n".join(read(tmp_path / "out/index.json")["warnings"])
    for part in ("label file without an image", "z.txt", "stands there twice", "without a label"):
        assert part in told
    assert objects(read(tmp_path / "out/train.json")) == TRAIN


def test_the_version_follows_labels_and_only_those_read(tmp_path):
    spec = make(tmp_path / "d", *ULTRALYTICS)
    first = data_version(spec)
    (tmp_path / "d/labels/train/b.txt").write_text("0 .5 .5 .1 .1\n")
    assert data_version(spec) != first
    (tmp_path / "d/labels/train/b.txt").write_text("")
    (tmp_path / "d/notes.txt").write_text("x")
    assert data_version(spec) == first


# name -> (files, parts of the message)
BAD = {
    "no names": (
        {"data.yaml": "train: images/train\nval: images/val\n"},
        ["no names", "data.yaml"],
    ),
    "empty names": ({"data.yaml": "train: a\nval: b\nnames: []\n"}, ["empty names", "a list of"]),
    "names a number": ({"data.yaml": "names: 3\n"}, ["a number as names"]),
    "a name yes": (
        {"data.yaml": "names: [yes, no, x]\n"},
        ["class name true", "names[0]", "quotes"],
    ),
    "two names alike": (
        {"data.yaml": "names: [cat, 'cat ', 'cat\\u3000']\n"},
        ["duplicate class name 'cat'"],
    ),
    "nc": ({"data.yaml": "nc: 4\n" + NAMES_MAP}, ["nc 4, but 3 names", "nc: 3"]),
    "negative index": ({"data.yaml": "names: {-1: cat}\n"}, ["index -1", "from 0"]),
    "not yaml": ({"data.yaml": "names: [a\n"}, ["not YAML", "data.yaml"]),
    "a list": ({"data.yaml": "- a\n"}, ["a list", "data.yaml"]),
    "no folder": (
        {"data.yaml": f"train: imgs/tra\nval: images/val\n{NAMES_MAP}"},
        ["train images 'imgs/tra'", "not there"],
    ),
    "class beyond the names": (
        {"labels/train/b.txt": "0 .5 .5 .1 .1\n3 .5 .5 .1 .1\n"},
        ["class index 3", "b.txt: line 2", "0 to 2, the 3 names of data.yaml"],
    ),
    "class below 0": ({"labels/train/b.txt": "-1 .5 .5 .1 .1\n"}, ["class index -1", "line 1"]),
    "class by name": ({"labels/train/b.txt": "cat .5 .5 .1 .1\n"}, ["class index 'cat'"]),
    "outside": ({"labels/train/b.txt": "0 1.2 .5 .1 .1\n"}, ["px outside", "b.txt: line 1"]),
    "sticks out": ({"labels/train/b.txt": "0 .95 .5 .4 .1\n"}, ["outside", "on_bad_box: clip"]),
    "no size": ({"labels/train/b.txt": "0 .5 .5 0 .1\n"}, ["no positive width", "line 1"]),
    "not a number": ({"labels/train/b.txt": "0 .5 .5 .1 x\n"}, ["line '.5 .5 .1 x'", "0 to 1"]),
    "nan": ({"labels/train/b.txt": "0 .5 nan .1 .1\n"}, ["not finite", "line 1"]),
    "a number of Python's": ({"labels/train/b.txt": "0 0_0.5 .5 .1 .1\n"}, ["line '0_0.5"]),
    "other digits": ({"labels/train/b.txt": "0 .5 .5 .1 \u0660.1\n"}, ["line '.5", "0 to 1"]),
    "too few": ({"labels/train/b.txt": "0 .5 .5\n"}, ["2 numbers", "b.txt: line 1"]),
    "half a corner": ({"labels/train/b.txt": "0 .1 .1 .2 .2 .3 .3 .4\n"}, ["7 numbers"]),
    "pixels": (
        {"labels/train/a.txt": "0 20 15 20 15\n"},
        ["all 1 boxes of train far beyond 0..1", "not in pixels"],
    ),
    "binary": ({"labels/train/b.txt": "\udcff"}, ["not UTF-8", "b.txt"]),
    "two images": ({"images/train/a.png": ""}, ["two images", "one image per name"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_changes_nothing(tmp_path, case):
    files, parts = BAD[case]
    spec = make(tmp_path / "d", ULTRALYTICS[0], ULTRALYTICS[1])
    for name, text in files.items():
        (tmp_path / "d" / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as error:
        prepare(spec, tmp_path / "out")
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


def test_no_declaration_and_no_labels(tmp_path):
    with pytest.raises(InputError, match=r"no data\.yaml, .*classes\.txt"):
        prepare(make(tmp_path / "a", {}, ["images/train/a.jpg"]), tmp_path / "out")
    two = {"one.yaml": NAMES_MAP, "two.yaml": NAMES_MAP}
    with pytest.raises(InputError, match=r"several yaml files \(one\.yaml, two\.yaml\)"):
        prepare(make(tmp_path / "b", two, []), tmp_path / "out")
    bare = {"data.yaml": ULTRALYTICS[0]["data.yaml"]}
    with pytest.raises(InputError, match="no label file for any of 2 train images"):
        prepare(make(tmp_path / "c", bare, ULTRALYTICS[1]), tmp_path / "out")
    with pytest.raises(InputError, match=r"no split 'vall' \(did you mean 'val'\?\)"):
        prepare(make(tmp_path / "d", *ULTRALYTICS) | {"test": "vall"}, tmp_path / "out")


def test_bad_boxes_can_be_skipped_or_clipped(tmp_path):
    bad = "0 .95 .5 .4 .1\n0 .5 .5\n"
    spec = make(tmp_path / "d", changed(), ULTRALYTICS[1])
    (tmp_path / "d/labels/train/b.txt").write_text(bad)
    for choice, left in (("skip", 2), ("clip", 3)):
        prepare(spec | {"on_bad_box": choice}, tmp_path / "out")
        assert len(objects(read(tmp_path / "out/train.json"))) == left


def test_a_broken_image_is_told_or_skipped(tmp_path):
    spec = make(tmp_path / "d", *ULTRALYTICS)
    (tmp_path / "d/images/train/a.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match="broken image"):
        prepare(spec, tmp_path / "out")
    prepare(spec | {"on_bad_image": "skip"}, tmp_path / "out")
    assert objects(read(tmp_path / "out/train.json")) == []


def test_links_out_of_the_data_set_can_be_refused(tmp_path):
    spec = make(tmp_path / "d", *ULTRALYTICS)
    outside = tmp_path / "outside.txt"
    outside.write_text(A)
    (tmp_path / "d/labels/train/b.txt").unlink()
    (tmp_path / "d/labels/train/b.txt").symlink_to(outside)
    prepare(spec, tmp_path / "out")
    with pytest.raises(InputError, match="leaves the data set's folder"):
        prepare(spec | {"links": "refuse"}, tmp_path / "refused")
