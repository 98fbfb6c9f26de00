"""`clclip init`: a data set in any layout becomes an experiment file that `describe` takes."""

import errno
import json

import pytest
import yaml

from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.workflow.describe import describe
from clclip.workflow.start import recognise as recogniser
from clclip.workflow.start.experiment_file import init, text
from clclip.workflow.start.recognise import recognise
from tests.helpers.data import TEST, TRAIN, box, make_coco, save_image
from tests.helpers.folders import make_folders
from tests.helpers.voc import FILES, LISTS, make_voc

YOLO = {
    "data.yaml": "train: ../train/images\nval: ../valid/images\nnames: [cat, dog, 'no']\n",
    "train/labels/a.txt": "0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.2 0.2\n",
    "train/labels/b.txt": "2 0.5 0.5 0.5 0.5\n",
    "valid/labels/c.txt": "0 0.25 0.5 0.5 1\n",
}


def make_yolo(root, files=YOLO):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
        if name.endswith(".txt") and "labels" in name:
            save_image(root / name.replace("labels", "images").replace(".txt", ".jpg"))


def roboflow(root):
    """COCO as Roboflow exports it: a json in the folder of each split."""
    for split, data in (("train", TRAIN), ("valid", TEST)):
        for image in data["images"]:
            save_image(root / split / image["file_name"])
        (root / split / "_annotations.coco.json").write_text(json.dumps(data))


def official(root):
    """COCO's own layout, with captions beside the boxes."""
    for split, data in (("train2017", TRAIN), ("val2017", TEST)):
        for image in data["images"]:
            save_image(root / split / image["file_name"])
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(data))
        captions = data | {"annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]}
        (root / f"annotations/captions_{split}.json").write_text(json.dumps(captions))


def one_folder(root):
    make_folders(root, {".": {"cat": 5, "dog: big #1": 4, "猫": 3}})


def darknet(root):
    make_yolo(root, {"classes.txt": "cat\ndog\n", "labels/a.txt": YOLO["train/labels/a.txt"]})
    for k in range(6):
        make_yolo(root, {f"labels/{k}.txt": f"{k % 2} 0.5 0.5 0.5 0.5\n"})


SETS = {
    "COCO": (make_coco, "coco", ["cat", "dog"]),
    "COCO of Roboflow": (roboflow, "coco", ["cat", "dog"]),
    "COCO as published": (official, "coco", ["cat", "dog"]),
    "VOC": (lambda root: make_voc(root, FILES, LISTS), "voc", ["chair", "dog"]),
    "VOC devkit": (
        lambda root: make_voc(make_folder(root / "VOCdevkit/VOC2012"), FILES, LISTS),
        "voc",
        ["chair", "dog"],
    ),
    "VOC with own lists": (
        lambda root: make_voc(root, FILES, {"train": LISTS["trainval"], "val": LISTS["test"]}),
        "voc",
        ["chair", "dog"],
    ),
    "YOLO of Roboflow": (make_yolo, "yolo", ["cat", "dog", "no"]),
    "YOLO without splits": (darknet, "yolo", ["cat", "dog"]),
    "folders": (make_folders, "folder", ["n01", "n02", "n10"]),
    "folders without a test set": (one_folder, "folder", ["cat", "dog: big #1", "猫"]),
}


def make_folder(path):
    path.mkdir(parents=True)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SETS)
def test_every_layout_becomes_a_file_that_runs(here, capsys, name):
    make, form, classes = SETS[name]
    make(make_folder(here / "my data"))
    assert main(["init", "my data"]) == 0
    said = capsys.readouterr().out
    assert f"{form} data, {len(classes)} classes" in said
    assert said.splitlines()[-1].strip().endswith("clclip run my_data.yaml")
    found = describe("my_data.yaml")
    groups = [task["classes"] for task in found["tasks"]]
    named = sorted(name for group in groups for name in group)
    assert named == sorted(classes) and len(groups) == 2
    assert found["data"]["there"] and all(task["images"] for task in found["tasks"])
    written = yaml.safe_load((here / "my_data.yaml").read_text(encoding="utf-8"))
    assert written["data"]["root"] == "my data" and written["data"]["format"] == form


def test_nothing_is_written_over(here, capsys):
    make_coco(here / "own")
    (here / "own.yaml").write_text("mine")
    assert main(["init", "own"]) == 2
    assert (here / "own.yaml").read_text() == "mine"
    assert "error: a file that is there, in own.yaml, expected --out" in capsys.readouterr().err
    assert main(["init", "own", "--out", "deep/other.yaml", "--tasks", "1"]) == 0
    assert describe("deep/other.yaml")["data"]["there"]


@pytest.mark.parametrize("name", ["voc_10_10_clclip", "my cards", "table.txt", "-x"])
def test_a_file_that_could_not_be_run_is_not_written(here, capsys, name):
    make_coco(here / "own")
    assert main(["init", "own", f"--out={name}.yaml"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: an experiment cannot be called '{name}', in {name}.yaml")
    assert said.err.count("\n") == 1 and not (here / f"{name}.yaml").exists()


@pytest.mark.parametrize("form", ["own", "./own", "deep/own"])
def test_a_folder_in_place_of_an_experiment_is_told_of_init(here, capsys, form):
    make_coco(here / form)
    assert main(["describe", form]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: a folder, in ") and said.count("\n") == 1
    assert f"`clclip init {here / form}` writes one" in said


@pytest.mark.parametrize(
    ("tasks", "sizes"), [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (5, [1, 1, 1, 1, 1])]
)
def test_classes_are_dealt_evenly(here, tasks, sizes):
    make_folders(here / "d", {split: dict.fromkeys("abcde", 2) for split in ("train", "test")})
    assert [len(group) for group in init(here / "d", None, tasks=tasks).tasks] == sizes


@pytest.mark.parametrize("tasks", [0, -1, 4])
def test_tasks_that_cannot_be_filled(here, tasks):
    make_folders(here / "d")
    with pytest.raises(InputError, match="another --tasks"):
        init(here / "d", None, tasks=tasks)
    assert not (here / "d.yaml").exists()


def test_a_class_that_no_training_image_shows_is_left_out_and_named(here):
    categories = [*TRAIN["categories"], {"id": 91, "name": 'odd "one"'}]
    make_coco(here / "d", TRAIN | {"categories": categories}, TEST | {"categories": categories})
    done = init(here / "d", None)
    assert done.left_out == ["dining table", 'odd "one"']
    assert '# without a training box: "dining table", "odd \\"one\\""\n' in done.path.read_text()


def test_boxes_that_would_be_refused_are_forgiven_in_writing(here, capsys):
    wide = {**TRAIN, "annotations": [*TRAIN["annotations"], box(9, 9, 3, [30, 5, 40, 5])]}
    make_coco(here / "d", wide)
    assert main(["init", "d"]) == 0
    assert "on_bad_box: clip" in capsys.readouterr().out
    assert "on_bad_box: clip # boxes that leave" in (here / "d.yaml").read_text()
    assert describe("d.yaml")["tasks"][0]["images"]


BAD = {
    "nothing there": (lambda root: None, "no such folder"),
    "an empty folder": (make_folder, "no data set that is known"),
    "one COCO file": (lambda r: (make_coco(r), (r / "test.json").unlink()), "with `test` or"),
    "two data sets in it": (
        lambda r: (make_coco(r / "a"), make_coco(r / "b")),
        "several data sets (a/train.json, b/train.json)",
    ),
    "ids that are text": (
        lambda r: make_coco(r, json.dumps(TRAIN).replace('"image_id": 5', '"image_id": "5"')),
        "image_id",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_ends_with_one_line_and_no_file(here, capsys, name):
    make, told = BAD[name]
    make(here / "d")
    assert main(["init", "d"]) == 2
    said = capsys.readouterr()
    assert told in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (here / "d.yaml").exists()


@pytest.mark.parametrize("name", ["/", "/../"])
def test_the_top_of_the_file_system_is_no_data_set(here, capsys, name):
    assert main(["init", name]) == 2
    error = capsys.readouterr().err
    assert "the top of the file system, in /" in error and "the folder of a data set" in error


def test_what_cannot_be_read_is_told_so(here, monkeypatch):
    """Not as something that cannot be written; a file's permissions say nothing to root."""
    (here / "photos" / "cat").mkdir(parents=True)

    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(recogniser, "_holds_image", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\), in .*cat"):
        recognise(here / "photos")


def test_a_format_can_be_asked_for(here):
    make_coco(here / "d")
    make_folders(here / "d")
    assert recognise(here / "d")["format"] == "coco"
    assert recognise(here / "d", "folder") == {"format": "folder", "train": "train", "test": "val"}
    with pytest.raises(InputError, match="no data set of format voc"):
        recognise(here / "d", "voc")


@pytest.mark.parametrize(
    "name", ["no", "1e3", "a: b", "#x", "- y", 'say "hi"', "null", "猫", "a b"]
)
def test_any_class_name_comes_back_as_it_is(name):
    data = {"format": "coco", "root": name, "train": "a.json", "test": "b.json"}
    read = yaml.safe_load(text(data, [[name], ["other"]], []))
    assert read["tasks"] == [[name], ["other"]] and read["data"]["root"] == name
