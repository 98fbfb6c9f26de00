"""The version of a data set: touched or copied data keeps it, one edited label changes it."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from clclip.data import version
from clclip.data.prepare import data_version, declared_classes
from tests.helpers.data import TRAIN, edited, make_coco, save_image
from tests.helpers.folders import make_folders
from tests.helpers.voc import FILES, LISTS, make_voc, thing


def make(kind, root):
    if kind == "coco":
        return make_coco(root)
    if kind == "folder":
        return make_folders(root)
    make_voc(root, FILES, LISTS)
    return {"format": "voc", "root": str(root)}


def age(root, seconds=100):
    """Make every file older, as data is that was not written this moment."""
    then = time.time() - seconds
    for folder, _, names in os.walk(root):
        for name in names:
            os.utime(os.path.join(folder, name), (then, then))


@pytest.mark.parametrize("kind", ["coco", "voc", "folder"])
@pytest.mark.parametrize("cached", [True, False])
def test_touched_copied_and_moved_data_keeps_its_version(tmp_path, kind, cached):
    spec = make(kind, tmp_path / "data")
    cache = tmp_path / "cache" if cached else None
    age(tmp_path / "data")
    first = data_version(spec, cache)
    assert len(first) == 8 and int(first, 16) >= 0
    age(tmp_path / "data", seconds=50)  # touched
    assert data_version(spec, cache) == first
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    assert data_version({**spec, "root": str(tmp_path / "copy")}, cache) == first
    assert data_version({**spec, "id": "another"}, cache) == first
    assert data_version({**spec, "on_bad_image": "fail"}, cache) == first  # the default
    assert data_version({**spec, "on_bad_image": "skip"}, cache) != first


def _coco_label(root):
    data = edited(TRAIN, "annotations", 0, "category_id", value=7)
    (root / "train.json").write_text(json.dumps(data))


def _coco_image(root):
    save_image(root / "images/a.png", (40, 30), colour=(1, 2, 3))


def _coco_image_gone(root):
    (root / "images/a.png").unlink()


def _voc_label(root):
    make_voc(root, {"000012": [thing("cat", (1, 1, 40, 30))]}, {})


def _voc_list(root):
    (root / "ImageSets/Main/trainval.txt").write_text("000005\n")


def _folder_label(root):
    (root / "train/n01/0 n01.png").rename(root / "train/n02/0 n01.png")
    save_image(root / "train/n01/new.png", (8, 6))


EDITS = {
    "coco label": ("coco", _coco_label),
    "coco image": ("coco", _coco_image),
    "coco image gone": ("coco", _coco_image_gone),
    "voc label": ("voc", _voc_label),
    "voc list": ("voc", _voc_list),
    "folder label": ("folder", _folder_label),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("cached", [True, False])
def test_one_edit_changes_the_version(tmp_path, name, cached):
    kind, edit = EDITS[name]
    spec = make(kind, tmp_path / "data")
    cache = tmp_path / "cache" if cached else None
    age(tmp_path / "data")
    first = data_version(spec, cache)
    assert data_version(spec, cache) == first
    edit(tmp_path / "data")
    assert data_version(spec, cache) != first


def test_images_that_are_not_used_do_not_count(tmp_path):
    spec = make("coco", tmp_path)
    first = data_version(spec)
    save_image(tmp_path / "images/unused.png")
    (tmp_path / "notes.txt").write_text("x")
    assert data_version(spec) == first


def test_the_cache_saves_the_reading_and_never_lies(tmp_path, monkeypatch):
    spec, cache = make("coco", tmp_path / "data"), tmp_path / "cache"
    reads = []
    original = version._read_facts
    monkeypatch.setattr(version, "_read_facts", lambda *a: reads.append(1) or original(*a))
    first = data_version(spec, cache)
    data_version(spec, cache)
    assert len(reads) == 2  # files of this moment are not trusted to a clock
    age(tmp_path / "data")
    for _ in range(3):
        assert data_version(spec, cache) == first
        assert declared_classes(spec, cache) == ["cat", "dog", "dining table"]
    assert len(reads) == 3
    for path in cache.iterdir():  # a damaged cache is read past
        path.write_text(path.read_text()[:40])
    assert data_version(spec, cache) == first and len(reads) == 4


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path):
    spec = make("coco", tmp_path / "data")
    age(tmp_path / "data")
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert data_version(spec, tmp_path / "cache") == data_version(spec)


def test_generated_worlds_have_versions_and_classes():
    spec = {"format": "shapes", "world": "shapes20", "id": "shapes20-v1"}
    assert len(declared_classes(spec)) == 20
    assert data_version(spec) != data_version({**spec, "world": "shapes80"})


def test_voc_to_be_downloaded_has_a_version_and_classes(tmp_path):
    spec = {"format": "voc", "root": str(tmp_path / "none"), "year": "2007", "download": True}
    first = data_version(spec)
    make_voc(tmp_path / "none/VOCdevkit/VOC2007", FILES, LISTS)
    assert data_version(spec) == first
    assert len(declared_classes(spec)) == 20


def test_no_torch_at_plan_time(tmp_path):
    spec = make("coco", tmp_path)
    code = (
        "import sys; from clclip.data.prepare import data_version, declared_classes;"
        f"spec = {spec!r}; data_version(spec); declared_classes(spec);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
