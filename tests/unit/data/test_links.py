"""Data sets made of links into a store: followed and counted, or refused where not trusted."""

import json
import shutil

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import data_version, prepare
from clclip.workflow.describe import describe
from tests.helpers.data import make_coco, read, save_image
from tests.helpers.voc import FILES, LISTS, make_voc


def moved_to_store(path, store):
    """Move a file or folder away and leave a link."""
    store.mkdir(parents=True, exist_ok=True)
    shutil.move(path, store / path.name)
    path.symlink_to(store / path.name)


def coco(root):
    return make_coco(root), ["cat", "dog"]


def voc(root):
    make_voc(root, FILES, LISTS)
    return {"format": "voc", "root": str(root), "year": "2007"}, ["dog", "chair"]


def folders(root):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for k in range(3):
                save_image(root / split / name / f"{k}.png", (8, 6))
    return {"format": "folder", "root": str(root)}, ["cat", "dog"]


# writer, what becomes a link, how many images are reached through links
LAID_OUT = {
    "coco, files": (coco, ["images/a.png", "images/t.png"], 2),
    "coco, image folder": (coco, ["images"], 4),
    "coco, annotations": (coco, ["train.json"], 0),
    "voc, files": (voc, ["JPEGImages/000005.jpg", "Annotations/000005.xml"], 1),
    "voc, image folder": (voc, ["JPEGImages"], 3),
    "folders, files": (folders, ["train/cat/0.png"], 1),
    "folders, a class": (folders, ["train/cat"], 3),
    "folders, a split": (folders, ["test"], 6),
}


def described(spec, classes, folder):
    kind = "classification" if spec["format"] == "folder" else "detection"
    method = "seca" if kind == "classification" else "fvit"
    told = {"kind": kind, "method": method, "data": spec, "tasks": [[name] for name in classes]}
    (folder / "mine.yaml").write_text(json.dumps(told))
    return describe(str(folder / "mine.yaml"))


@pytest.mark.parametrize("name", LAID_OUT)
def test_links_are_followed_and_counted(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, linked, count = LAID_OUT[name]
    spec, classes = write(tmp_path / "data")
    before = data_version(spec)
    prepare(spec, tmp_path / "plain")
    for path in linked:
        moved_to_store(tmp_path / "data" / path, tmp_path / "store" / path.replace("/", "_"))
    assert data_version(spec) == before
    prepare(spec, tmp_path / "out")
    for split in ("train", "test"):
        assert read(tmp_path / f"out/{split}.json") == read(tmp_path / f"plain/{split}.json")
    index = read(tmp_path / "out/index.json")
    assert index["counts"].get("linked_images", 0) == count
    line = f"{count} images reached through symbolic links"
    assert (line in index["warnings"]) is (count > 0)
    assert (line in described(spec, classes, tmp_path)["warnings"]) is (count > 0)
    refusing = {**spec, "links": "refuse"}
    for look in (
        lambda: prepare(refusing, tmp_path / "refused"),
        lambda: described(refusing, classes, tmp_path),
    ):
        with pytest.raises(InputError, match=r"link .* leaves the data set's folder.*links: f"):
            look()
    assert not (tmp_path / "refused").exists()


def test_links_inside_and_a_linked_root_pass_where_links_are_refused(tmp_path):
    spec, _ = coco(tmp_path / "data")
    (tmp_path / "data/images/a.png").unlink()
    (tmp_path / "data/images/a.png").symlink_to("b.png")
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    refusing = {**spec, "root": str(tmp_path / "alias"), "links": "refuse"}
    prepare(refusing, tmp_path / "out")
    assert read(tmp_path / "out/index.json")["counts"]["linked_images"] == 1


def nowhere(path):
    path.symlink_to(path.parent / "gone")


def circle(path):
    path.symlink_to(path)


BROKEN = {
    "coco, file": (coco, "images/a.png", nowhere, "'a.png' that leads nowhere"),
    "coco, file to itself": (coco, "images/a.png", circle, "'a.png' that leads in a circle"),
    "coco, image folder": (coco, "images", nowhere, "a link 'images' that leads nowhere"),
    "voc, image folder": (voc, "JPEGImages", circle, "'JPEGImages' that leads in a circle"),
    "voc, file": (voc, "JPEGImages/000005.jpg", nowhere, "'000005.jpg' that leads nowhere"),
    "folders, file": (folders, "train/cat/0.png", circle, "'0.png' that leads in a circle"),
    "folders, class": (folders, "train/cat", nowhere, "link 'cat' that leads nowhere"),
    "folders, class to itself": (folders, "train/cat", circle, "'cat' that leads in a circle"),
    "folders, split": (folders, "test", nowhere, "link 'test' that leads nowhere"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_links_are_told_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, path, link, told = BROKEN[name]
    spec, classes = write(tmp_path / "data")
    target = tmp_path / "data" / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    link(target)
    with pytest.raises(InputError, match=told):
        described(spec, classes, tmp_path)
    if "class" not in name:  # what no task names blocks nothing: `prepare` knows no tasks
        with pytest.raises(InputError, match=told):
            prepare(spec, tmp_path / "out")


@pytest.mark.parametrize("target", ["..", ".", "../../train"])
def test_a_class_folder_that_leads_back_to_itself_is_told(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    spec, classes = folders(tmp_path / "data")
    (tmp_path / "data/train/cat/again").symlink_to(target)
    with pytest.raises(InputError, match=r"that leads in a circle"):
        described(spec, classes, tmp_path)


@pytest.mark.parametrize("link", ["hardlink_to", "symlink_to"])
def test_an_image_in_both_splits_is_told_however_it_is_linked(tmp_path, link):
    spec, _ = folders(tmp_path / "data")
    other = tmp_path / "data/test/cat/same.png"
    getattr(other, link)(tmp_path / "data/train/cat/0.png")
    prepare(spec, tmp_path / "out")
    warnings = "\n".join(read(tmp_path / "out/index.json")["warnings"])
    assert "image in train and in test: 'test/cat/same.png'" in warnings
