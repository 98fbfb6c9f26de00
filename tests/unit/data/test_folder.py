"""Labelled folders and CIFAR-100; counts made by hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.data.checks.unnamed import check_named
from clclip.data.prepare import data_version, declared_classes, prepare
from clclip.data.readers.cifar import CIFAR100_CLASSES
from tests.helpers.data import read, save_image
from tests.helpers.folders import make_folders
from tests.helpers.splits import make_task


def test_folders_become_labels(tmp_path):
    prepare(make_folders(tmp_path / "data"), tmp_path / "out")
    index, train = read(tmp_path / "out/index.json"), read(tmp_path / "out/train.json")
    assert index["kind"] == "classification" and index["root"] == str(tmp_path / "data")
    assert index["classes"] == train["classes"] == ["n01", "n02", "n10"]
    assert index["counts"]["train"] == 7 and index["counts"]["test"] == 3
    assert index["counts"]["classes"]["test"] == {"n01": 1, "n02": 2, "n10": 0}
    assert index["warnings"] == ["class without test images: 'n10'"]
    first = train["images"][0]
    assert first == {"id": 1, "file_name": "train/n01/0 n01.png", "label": "n01"}
    test = read(tmp_path / "out/test.json")
    assert test["images"][0]["file_name"].startswith("val/")
    numbers = [i["id"] for i in train["images"] + test["images"]]
    assert numbers == list(range(1, 11))  # no id in both splits


NAMES = {
    "pairs.txt": "n10 grey whale\nn01\tgoldfish\nn02  tench\nn99 unused\n",
    "order.txt": "goldfish\ntench\ngrey whale\n",
    "map.json": json.dumps({"n10": "grey whale", "n01": "goldfish", "n02": "tench", "n99": "x"}),
    "list.json": json.dumps(["goldfish", "tench", "grey whale"]),
    "map.yaml": "n10: grey whale\nn01: goldfish\nn02: tench\n",
    "list.yml": "[goldfish, tench, grey whale]",
}


@pytest.mark.parametrize("name", NAMES)
def test_class_names_in_every_form(tmp_path, name):
    spec = {**make_folders(tmp_path), "class_names": name}
    (tmp_path / name).write_text(NAMES[name])
    assert declared_classes(spec) == ["goldfish", "tench", "grey whale"]
    prepare(spec, tmp_path / "out")
    labels = {i["label"] for i in read(tmp_path / "out/train.json")["images"]}
    by_folder = {
        i["file_name"].split("/")[1]: i["label"] for i in read(tmp_path / "out/test.json")["images"]
    }
    assert labels == {"goldfish", "tench", "grey whale"}
    assert by_folder == {"n01": "goldfish", "n02": "tench"}


def test_a_file_that_lists_the_folders_in_another_order_renames_nothing(tmp_path):
    spec = {**make_folders(tmp_path), "class_names": "x.txt"}
    (tmp_path / "x.txt").write_text("n10\nn02\nn01\n")
    assert declared_classes(spec) == ["n01", "n02", "n10"]


BAD_NAMES = {
    "missing.txt": ("n01 goldfish\nn02 tench\n", ["no name for class folder 'n10'"]),
    "short.txt": ("a\nb\n", ["2 names", "3, one per class folder"]),
    "twice.txt": ("n01 crane\nn02 crane\nn10 x\n", ["name 'crane' for both 'n01' and 'n02'"]),
    "broken.json": ("{", ["not JSON"]),
    "number.json": ("3", ["a number", "mapping"]),
    "null.json": ('{"n01": null, "n02": "b", "n10": "c"}', ["class name null", "n01"]),
    "numbers.yaml": ("n01: 1\nn02: b\nn10: c\n", ["class name 1", "n01", "in quotes"]),
    "broken.yaml": ("[a, b", ["cannot be read"]),
    "tag.yaml": ("!!python/object/apply:os.system ['true']", ["cannot be read"]),
    "bytes.txt": (b"\xff\xfe", ["cannot be read"]),
    "absent.txt": (None, ["cannot be read", "absent.txt"]),
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_class_names(tmp_path, name):
    text, parts = BAD_NAMES[name]
    spec = {**make_folders(tmp_path / "data"), "class_names": name}
    if text is not None:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "data" / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        prepare(spec, tmp_path / "out")
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    assert name in str(caught.value) and not (tmp_path / "out").exists()


def _corrupt(root):
    path = root / "train/n01/0 n01.png"
    path.write_bytes(path.read_bytes()[:40])


FOLDERS = {
    "corrupt image": (_corrupt, {}, ["broken image", "0 n01.png", "on_bad_image: skip"]),
    "no train folder": (lambda _: None, {"train": "tarin"}, ["no train folder 'tarin'"]),
    "no test folder": (lambda _: None, {"test": "t"}, ["no test folder 't'"]),
    "train leaves": (lambda _: None, {"train": "../x"}, ["leaves the image folder"]),
    "no class folder": (lambda root: (root / "e").mkdir(), {"train": "e"}, ["no class folder"]),
    "fraction 1": (lambda _: None, {"test_fraction": 1.0}, ["test fraction 1.0", "0 and 1"]),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_bad_folders(tmp_path, name):
    damage, change, parts = FOLDERS[name]
    spec = {**make_folders(tmp_path / "data"), **change}
    damage(tmp_path / "data")
    with pytest.raises(InputError) as caught:
        prepare(spec, tmp_path / "out")
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_bad_images_are_skipped_unless_a_class_becomes_too_small(tmp_path):
    spec = {**make_folders(tmp_path / "data"), "on_bad_image": "skip"}
    (tmp_path / "data/train/n02/1 n02.png").write_bytes(b"")
    prepare(spec, tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    assert [s["file_name"] for s in index["skipped"]] == ["train/n02/1 n02.png"]
    assert index["counts"]["classes"]["train"]["n02"] == 2
    (tmp_path / "data/train/n02/2 n02.png").write_bytes(b"")
    with pytest.raises(InputError, match="fewer than two good training images in class 'n02'"):
        prepare(spec, tmp_path / "out")


def test_other_files_are_ignored_with_a_warning_and_hidden_ones_silently(tmp_path):
    spec = make_folders(tmp_path)
    for name in ("notes.txt", ".DS_Store", ".hidden.png"):
        (tmp_path / "train/n01" / name).write_text("x")
    (tmp_path / "train/.cache").mkdir()
    prepare(spec, tmp_path / "out")
    index = read(tmp_path / "out/index.json")
    assert index["counts"]["train"] == 7
    assert "not an image by its suffix, ignored: 'n01/notes.txt'" in index["warnings"]


def test_one_folder_is_split_by_a_fraction(tmp_path):
    make_folders(tmp_path / "data", {".": {"a": 10, "b": 3}})
    spec = {"format": "folder", "root": str(tmp_path / "data"), "test_fraction": 0.3}
    prepare(spec, tmp_path / "out")
    splits = [read(tmp_path / f"out/{split}.json")["images"] for split in ("train", "test")]
    names = [{i["file_name"] for i in images} for images in splits]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 13
    counts = read(tmp_path / "out/index.json")["counts"]["classes"]
    assert counts["test"] == {"a": 3, "b": 1} and counts["train"] == {"a": 7, "b": 2}
    prepare({**spec, "split_seed": 1}, tmp_path / "other")
    other = {i["file_name"] for i in read(tmp_path / "other/test.json")["images"]}
    assert other != names[1]
    save_image(tmp_path / "data/b/another.png")  # a new image of b moves none of a
    prepare(spec, tmp_path / "more")
    again = {i["file_name"] for i in read(tmp_path / "more/test.json")["images"]}
    assert {n for n in again if n.startswith("a/")} == {n for n in names[1] if n.startswith("a/")}


# --- CIFAR-100 ------------------------------------------------------------------------------------


def make_cifar(root, names=("apple", "sea lion")):
    """Write a tiny cifar-100-binary: 3 training images and 1 test image; return the arrays."""
    rng = np.random.default_rng(0)
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    arrays = {}
    for split, labels in (("train", [1, 0, 1]), ("test", [0])):
        images = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
        records = [
            bytes([9, label]) + image.transpose(2, 0, 1).tobytes()
            for label, image in zip(labels, images, strict=True)
        ]
        (folder / f"{split}.bin").write_bytes(b"".join(records))
        arrays[split] = images
    (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    return arrays


def test_binary_cifar_becomes_png(tmp_path):
    arrays = make_cifar(tmp_path / "data")
    spec = {"format": "cifar100", "root": str(tmp_path / "data")}
    prepare(spec, tmp_path / "out")
    index, train = read(tmp_path / "out/index.json"), read(tmp_path / "out/train.json")
    assert index["classes"] == ["apple", "sea lion"] == declared_classes(spec)
    assert [i["label"] for i in train["images"]] == ["sea lion", "apple", "sea lion"]
    assert index["counts"]["test"] == 1 and index["root"] == "images"
    for image, pixels in zip(train["images"], arrays["train"], strict=True):
        with Image.open(tmp_path / "out" / index["root"] / image["file_name"]) as found:
            assert np.array_equal(np.asarray(found), pixels)


@pytest.mark.parametrize(
    ("file", "data", "part"),
    [
        ("train.bin", b"x" * 3000, "3000 bytes"),
        ("test.bin", b"", "0 bytes"),
        ("train.bin", b"\x00\x07" + b"x" * 3072, "label 7"),
        ("test.bin", None, "no file test.bin"),
    ],
)
def test_damaged_cifar(tmp_path, file, data, part):
    make_cifar(tmp_path)
    path = tmp_path / "cifar-100-binary" / file
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=part):
        prepare({"format": "cifar100", "root": str(tmp_path)}, tmp_path / "out")


def test_pickled_cifar_of_unknown_content_is_never_loaded(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    trap = tmp_path / "trap"
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(f"cos\nsystem\n(S'touch {trap}'\ntR.".encode())
    with pytest.raises(InputError, match="no intact CIFAR-100"):
        prepare({"format": "cifar100", "root": str(tmp_path)}, tmp_path / "out")
    assert not trap.exists()


def test_cifar_has_one_version_before_and_after_its_download(tmp_path):
    spec = {"format": "cifar100", "root": str(tmp_path / "data"), "download": True}
    before = data_version(spec)
    (tmp_path / "data/cifar-100-python").mkdir(parents=True)
    assert data_version(spec) == data_version({**spec, "download": False}) == before
    assert declared_classes(spec) == CIFAR100_CLASSES and len(set(CIFAR100_CLASSES)) == 100
    with pytest.raises(InputError, match="no CIFAR-100"):
        data_version({"format": "cifar100", "root": str(tmp_path)})


def test_a_broken_image_of_a_class_that_no_task_names_is_a_remark(tmp_path):
    spec = make_folders(tmp_path / "data")
    bad = tmp_path / "data/train/n10" / sorted(os.listdir(tmp_path / "data/train/n10"))[0]
    bad.write_bytes(bad.read_bytes()[:40])
    out = tmp_path / "out"
    with pytest.raises(InputError, match="broken image"):
        prepare(spec, out)
    with pytest.raises(InputError, match="broken image"):
        prepare(spec, out, ["n01", "n10"])
    assert not out.exists() or not list(out.glob("*.json"))
    prepare(spec, out, ["n01", "n02"])
    index, train = read(out / "index.json"), read(out / "train.json")
    assert any("no task names" in line and bad.name in line for line in index["warnings"])
    assert bad.name not in [Path(i["file_name"]).name for i in train["images"]]
    check_named(index, ["n01", "n02"])
    with pytest.raises(InputError, match=r"broken image.*'n10'.*on_bad_image: skip"):
        check_named(index, ["n01", "n10"])


def test_describe_passes_over_an_empty_file_of_a_class_that_no_task_names(tmp_path, capsys):
    make_folders(tmp_path / "data")
    bad = tmp_path / "data/train/n10" / sorted(os.listdir(tmp_path / "data/train/n10"))[0]
    bad.write_bytes(b"")
    mine = tmp_path / "mine.yaml"
    text = "kind: classification\nmethod: ncm\ndata: {format: folder, root: data}\n"
    mine.write_text(f"{text}tasks: [[n01], [n02]]\n")
    for words in ([], ["--check-images"]):
        assert main(["describe", str(mine), *words]) == 0
        assert "a class folder that no task names" in capsys.readouterr().out
    mine.write_text(f"{text}tasks: [[n01], [n02], [n10]]\n")
    assert main(["describe", str(mine)]) == 2
    assert "broken image" in capsys.readouterr().err


def test_split_refuses_a_task_of_a_class_that_was_broken_when_nothing_named_it(tmp_path, capsys):
    """Another experiment had the data prepared; the index is that of its classes."""
    spec = make_folders(tmp_path / "data")
    bad = tmp_path / "data/test/n02"
    bad = bad if bad.is_dir() else tmp_path / "data/val/n02"
    bad = bad / sorted(os.listdir(bad))[0]
    bad.write_bytes(b"")
    told = ["--spec", json.dumps(spec | {"id": "d-1"}), "--classes", '["n01"]']
    assert main(["prepare", *told, "--out", str(tmp_path / "resources/data/d-1")]) == 0
    for groups, status in (([["n01"]], 0), ([["n01"], ["n02"]], 2)):
        task = make_task(groups, "seca", "classification", id="d-1")
        (tmp_path / "task.json").write_text(json.dumps(task))
        words = ["--task", str(tmp_path / "task.json"), "--resources", str(tmp_path / "resources")]
        assert main(["split", *words]) == status
    assert "broken image" in capsys.readouterr().err
    assert main(["prepare", *told[:-1], "[3]", "--out", str(tmp_path / "out")]) == 2
