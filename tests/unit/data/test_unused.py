"""What nothing uses never blocks: categories without annotations, class folders, other images."""

import json
import shutil

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import declared_classes, prepare
from clclip.workflow.describe import describe
from tests.helpers.data import CATEGORIES, TEST, TRAIN, box, make_coco, read, save_image
from tests.helpers.voc import FILES, LISTS, make_voc

ROOTS = {
    "the name of a class": ({"id": 0, "name": "cat"}, True),
    "the name of a class, spelt otherwise": ({"id": 0, "name": " cat\u3000"}, True),
    "no name": ({"id": 0}, True),
    "null": ({"id": 0, "name": None}, True),
    "blank": ({"id": 0, "name": " "}, True),
    "a number": ({"id": 0, "name": 7}, True),
    "control characters": ({"id": 0, "name": "a\x00b"}, True),
    "no id": ({"name": "thing"}, True),
    "an id twice": ({"id": 3, "name": "thing"}, False),  # cat's, which boxes use
    "a name of its own": ({"id": 0, "name": "animals"}, None),
}


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("name", ROOTS)
def test_categories_without_annotations(tmp_path, name, place):
    entry, left_out = ROOTS[name]
    categories = [*CATEGORIES[:place], entry, *CATEGORIES[place:]]
    spec = make_coco(
        tmp_path, {**TRAIN, "categories": categories}, {**TEST, "categories": categories}
    )
    if left_out is False:
        with pytest.raises(InputError, match=r"duplicate id 3 \(also categories"):
            prepare(spec, tmp_path / "out")
        return
    prepare(spec, tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    kept = ["cat", "dog", "dining table"]
    assert index["classes"] == (kept if left_out else ["animals", *kept])
    said = " ".join(index["warnings"])
    assert ("category without annotations left out" in said) is bool(left_out)
    assert index["counts"]["classes"]["train"]["cat"] == 1


def test_a_category_that_only_the_other_split_uses_keeps_its_name(tmp_path):
    """Each split lists ids of its own for what it does not show."""
    test = {**TEST, "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "dining table"}]}
    spec = make_coco(tmp_path, TRAIN, test)
    assert declared_classes(spec) == ["cat", "dog", "dining table"]
    used = {**test, "annotations": [*TEST["annotations"], box(2, 1, 3, [1, 1, 5, 5])]}
    with pytest.raises(InputError, match="id 3 is 'dining table' here and 'cat' in the other"):
        declared_classes(make_coco(tmp_path, TRAIN, used))


def make_folders(root):
    """Write folders of cat and dog."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for k in range(3):
                save_image(root / split / name / f"{k}.png", (8, 6))
    return {"format": "folder", "root": str(root)}


def images(root, name, count):
    """Write ``count`` images into a folder."""
    (root / name).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        save_image(root / name / f"{k}.png", (8, 6))


FOLDERS = {
    "one image": ("train/bird", 1, "one image in class 'bird'"),
    "one image in both": ("train/bird test/bird", 1, "one image in class 'bird'"),
    "empty": ("train/bird", 0, "empty class folder 'bird'"),
    "only in test": ("test/bird", 2, "test class 'bird' without a training folder"),
    "empty in test": ("train/bird test/bird/more", 0, "empty class folder 'bird'"),
}


def use(folder, spec, *classes):
    told = {"kind": "classification", "method": "seca", "data": spec}
    told["tasks"] = [[name] for name in classes]
    (folder / "mine.yaml").write_text(json.dumps(told))
    return describe(str(folder / "mine.yaml"))


@pytest.mark.parametrize(
    ("name", "fraction"),
    [(name, None) for name in FOLDERS] + [("one image", 0.34), ("empty", 0.34)],
)
def test_class_folders_block_only_a_task_that_names_them(tmp_path, monkeypatch, name, fraction):
    monkeypatch.chdir(tmp_path)
    paths, count, told = FOLDERS[name]
    spec = make_folders(tmp_path / "data")
    if fraction:
        spec |= {"test_fraction": fraction, "train": "train"}
    prepare(spec, tmp_path / "before")
    for path in paths.split():
        images(tmp_path / "data", path, count)
    found = use(tmp_path, spec, "cat", "dog")
    assert any("that no task can use: 'bird' (" in line for line in found["warnings"])
    prepare(spec, tmp_path / "after")
    for split in ("train", "test"):
        assert read(tmp_path / f"after/{split}.json") == read(tmp_path / f"before/{split}.json")
    assert declared_classes(spec) == ["cat", "dog"]
    with pytest.raises(InputError, match=told):
        use(tmp_path, spec, "cat", "bird")


@pytest.mark.parametrize("odd", ["a\nb", "\u200bcat", "bi\x07rd"])
def test_an_odd_class_folder_blocks_nothing(tmp_path, monkeypatch, odd):
    monkeypatch.chdir(tmp_path)
    spec = make_folders(tmp_path / "data")
    images(tmp_path / "data/train", odd, 3)
    assert use(tmp_path, spec, "cat", "dog")["data"]["images"] == {"train": 6, "test": 6}


def test_a_data_set_without_any_fit_class_says_why(tmp_path):
    images(tmp_path / "train", "bird", 1)
    images(tmp_path / "test", "bird", 1)
    with pytest.raises(InputError, match="one image in class 'bird'"):
        prepare({"format": "folder", "root": str(tmp_path)}, tmp_path / "out")


def test_class_names_may_leave_unfit_folders_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = make_folders(tmp_path / "data") | {"class_names": "names.txt"}
    images(tmp_path / "data/train", "empty", 0)
    for text in ("feline\nhound\n", "feline\nhound\nnothing\n", "cat feline\ndog hound\n"):
        (tmp_path / "data/names.txt").write_text(text)
        assert declared_classes(spec) == ["feline", "hound"]
    (tmp_path / "data/names.txt").write_text("cat feline\ndog hound\nempty bird\n")
    with pytest.raises(InputError, match="empty class folder 'empty'"):
        use(tmp_path, spec, "bird")


def add_listed(root):
    save_image(root / "JPEGImages/000005.png")


def add_unlisted(root):
    for suffix in ("jpg", "png", "jpeg"):
        save_image(root / f"JPEGImages/000099.{suffix}")


def add_below(root):
    for suffix in ("jpg", "png"):
        save_image(root / f"JPEGImages/old/000005.{suffix}")


def add_broken(root):
    (root / "JPEGImages/000098.jpg").write_bytes(b"")
    (root / "Annotations/000098.xml").write_text("<annot")


@pytest.mark.parametrize(
    ("add", "told"),
    [(add_unlisted, None), (add_below, None), (add_broken, None), (add_listed, "two images")],
)
def test_voc_images_that_no_list_names(tmp_path, add, told):
    make_voc(tmp_path, FILES, LISTS)
    spec = {"format": "voc", "root": str(tmp_path), "year": "2007"}
    prepare(spec, tmp_path / "before")
    add(tmp_path)
    if told:
        with pytest.raises(InputError, match=told):
            prepare(spec, tmp_path / "after")
    else:
        prepare(spec, tmp_path / "after")
        for name in ("index", "train", "test"):
            one, other = (tmp_path / f"{when}/{name}.json" for when in ("before", "after"))
            assert one.read_text().replace("before", "after") == other.read_text()


def test_coco_images_that_no_list_names(tmp_path):
    spec = make_coco(tmp_path)
    prepare(spec, tmp_path / "before")
    (tmp_path / "images/x.png").write_bytes(b"")
    shutil.copy(tmp_path / "images/a.png", tmp_path / "images/a.jpg")
    prepare(spec, tmp_path / "after")
    assert read(tmp_path / "after/train.json") == read(tmp_path / "before/train.json")
