"""Where the images of a COCO json are found: the layouts, and which of two folders counts."""

import json
from pathlib import Path

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import prepare
from tests.helpers.data import TEST, TRAIN, make_coco, read, save_image


def test_official_layout_has_a_folder_per_split(tmp_path):
    official = {
        "train": "annotations/instances_train2017.json",
        "test": "annotations/instances_val2017.json",
    }
    (tmp_path / "annotations").mkdir()
    for split, data, folder, names in (
        ("train", TRAIN, "train2017", "abc"),
        ("test", TEST, "val2017", "t"),
    ):
        (tmp_path / official[split]).write_text(json.dumps(data))
        for name in names:
            save_image(tmp_path / folder / f"{name}.png")
    spec = {"format": "coco", "root": str(tmp_path), **official}
    for n, more in enumerate(({}, {"images": "."})):
        prepare({**spec, **more}, tmp_path / f"out{n}")
        root = read(tmp_path / f"out{n}/index.json")["root"]
        for split in ("train", "test"):
            for image in read(tmp_path / f"out{n}/{split}.json")["images"]:
                assert (tmp_path / root / image["file_name"]).is_file()


def test_images_may_lie_beside_their_annotations(tmp_path):
    spec = {"format": "coco", "root": str(tmp_path), "images": "."}
    for split, folder, data, names in (
        ("train", "train", TRAIN, "abc"),
        ("test", "valid", TEST, "t"),
    ):
        spec[split] = f"{folder}/_annotations.coco.json"
        for name in names:
            save_image(tmp_path / folder / f"{name}.png")
        (tmp_path / spec[split]).write_text(json.dumps(data))
    prepare(spec, tmp_path / "out")
    assert read(tmp_path / "out/test.json")["images"][0]["file_name"] == "valid/t.png"


def test_the_folder_of_most_images_counts_and_not_that_of_the_first(tmp_path):
    spec = make_coco(tmp_path)
    (tmp_path / "images").rename(tmp_path / "train")
    spec = {**spec, "images": None}
    save_image(tmp_path / "t.png")  # the test image lies in the root
    save_image(tmp_path / "images/c.png", (7, 7))  # the first one is elsewhere too, another one
    prepare(spec, tmp_path / "out")
    index, train = read(tmp_path / "out/index.json"), read(tmp_path / "out/train.json")
    assert Path(index["root"]) / train["images"][0]["file_name"] == tmp_path / "train/c.png"
    (tmp_path / "train/c.png").unlink()  # and where the first is missing, the rest still count
    with pytest.raises(InputError, match=r"train/c\.png"):
        prepare(spec, tmp_path / "more")
    prepare({**spec, "on_bad_image": "skip"}, tmp_path / "more")
    assert read(tmp_path / "more/index.json")["counts"]["train"] == 2
