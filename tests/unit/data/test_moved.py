"""A data set that was moved: its index is told, and every reader finds the images."""

import json
import os
from pathlib import Path

import pytest

from clclip.core.errors import InputError
from clclip.data.images import load_rgb
from clclip.data.index import image_root
from clclip.data.prepare import prepare
from clclip.data.relocate import relocate
from clclip.data.split import split_task
from clclip.detection.inputs import online
from tests.helpers.data import TEST, TRAIN, make_coco, read, save_image
from tests.helpers.folders import make_folders
from tests.helpers.splits import make_task
from tests.helpers.voc import FILES, LISTS, make_voc

OFFICIAL = {"train": "instances_train2017.json", "test": "instances_val2017.json"}


def make_official(root):
    """Write a COCO data set with an image folder per split."""
    for split, data, names in (("train", TRAIN, "abc"), ("test", TEST, "t")):
        folder = OFFICIAL[split].removeprefix("instances_").removesuffix(".json")
        for name in names:
            save_image(root / folder / f"{name}.png")
        (root / OFFICIAL[split]).write_text(json.dumps(data))
    return {"format": "coco", "root": str(root), **OFFICIAL}


def make_devkit(root):
    make_voc(root / "VOCdevkit/VOC2007", FILES, LISTS)
    return {"format": "voc", "root": str(root), "year": "2007"}


MAKERS = {"coco": make_coco, "two": make_official, "voc": make_devkit, "folder": make_folders}


@pytest.fixture
def resources(tmp_path):
    return tmp_path / "resources"


@pytest.fixture
def index(resources):
    return resources / "data/mine/index.json"


def indexed(tmp_path, kind, **more):
    """Make and index a data set; return its spec."""
    spec = {**MAKERS[kind](tmp_path / "here"), **more, "id": "mine"}
    prepare(spec, tmp_path / "resources/data/mine")
    os.utime(tmp_path / "resources/data/mine/index.json", (1_700_000_000, 1_700_000_000))
    return spec


def moved(tmp_path, spec):
    """Move the data set; return its new spec."""
    (tmp_path / "here").rename(tmp_path / "there")
    return {**spec, "root": str(tmp_path / "there")}


@pytest.mark.parametrize("kind", MAKERS)
def test_every_listed_image_is_found_after_a_move(tmp_path, kind, resources, index):
    spec = indexed(tmp_path, kind)
    before = read(index)
    relocate([spec], resources)
    assert read(index) == before
    relocate([moved(tmp_path, spec)], resources)
    after, root = read(index), image_root(make_task([["cat"]]), resources)
    assert after == {**before, "root": before["root"].replace("/here", "/there")}
    assert index.stat().st_mtime == 1_700_000_000
    for split in ("train", "test"):
        images = read(index.parent / f"{split}.json")["images"]
        assert images and all((root / image["file_name"]).is_file() for image in images)


def test_features_computed_as_training_goes_read_the_new_place(
    tmp_path, resources, index, monkeypatch
):
    spec = indexed(tmp_path, "coco")
    task_file = tmp_path / "results/e/seed0/task1/task.json"
    task_file.parent.mkdir(parents=True)
    features = {"cache": False, "size": 32, "dense": "catseg", "taps": [0]}
    task = {**make_task([["cat", "dog"]]), "features": features}
    task_file.write_text(json.dumps(task))
    split_task(task_file, resources)
    relocate([moved(tmp_path, spec)], resources)
    monkeypatch.setattr(online, "OnlineFeatures", lambda _folder, images, *_: images)
    images = online.open_features(task, "train", resources, task_file.parent / "train.json")
    assert sorted(images) == [5, 9]
    assert {load_rgb(*image).size for image in images.values()} == {(40, 30)}


def test_image_folders_that_lie_otherwise_are_refused(tmp_path, resources, index):
    spec = moved(tmp_path, indexed(tmp_path, "two"))
    (tmp_path / "there/images").mkdir()
    for folder in ("train2017", "val2017"):
        (tmp_path / "there" / folder).rename(tmp_path / "there/images" / folder)
    relocate([spec], resources)  # both a folder deeper: as they lay to each other
    assert read(index)["root"] == str(tmp_path / "there/images")
    (tmp_path / "there/images/val2017").rename(tmp_path / "there/val2017")
    with pytest.raises(InputError, match=r"'images/train2017/' and 'val2017/'.*'train2017/' and"):
        relocate([spec], resources)


def test_what_is_not_indexed_or_not_downloaded_is_left_alone(tmp_path, resources, index):
    relocate([{"format": "voc", "root": str(tmp_path), "id": "mine"}], resources)
    assert not index.exists()
    spec = indexed(tmp_path, "voc", download=False)
    before = index.read_bytes()
    (tmp_path / "empty").mkdir()
    relocate([{**spec, "root": str(tmp_path / "empty"), "download": True}], resources)
    make_voc(tmp_path / "part/VOC2007", {k: FILES[k] for k in ("000005", "000012")}, LISTS)
    relocate([{**spec, "root": str(tmp_path / "part"), "download": True}], resources)
    relocate([{"format": "shapes", "world": "shapes20", "id": "mine"}], resources)
    assert index.read_bytes() == before
    index.write_text("{")  # the stage that reads it says so
    relocate([spec], resources)
    index.write_text(json.dumps({"root": "images"}))  # beside the index, wherever the source is
    relocate([spec], resources)
    assert image_root(make_task([["cat"]]), resources) == Path(index.parent / "images")
