"""Boxes given as fractions of their image: an error where all are, a warning where some are."""

import json

import pytest

from clclip.core.errors import InputError
from clclip.data.prepare import prepare
from clclip.data.version import data_version
from clclip.workflow.describe import describe
from tests.helpers.data import TEST, TRAIN, box, make_coco, read
from tests.helpers.voc import LISTS, make_voc, thing

FRACTIONS = {
    "x, y, width, height": [0.1, 0.2, 0.5, 0.5],
    "the whole image": [0, 0, 1, 1],
    "centre, width, height": [0.7, 0.6, 0.6, 0.8],
    "corners": [0.5, 0.5, 0.9, 1.0],
    "a little over": [-0.001, 0.2, 1.0005, 0.5],
}


def coco(root, small, large=0, split="train"):
    """Write a data set whose training or test boxes are ``small`` ones and ``large`` others."""
    number = {"train": 5, "test": 1}[split]
    boxes = [box(n, number, 7, b) for n, b in enumerate(small, 1)]
    boxes += [box(1000 + n, number, 7, [3, 4, 9, 9]) for n in range(large)]
    made = {"train": TRAIN, "test": TEST}
    made[split] = {**made[split], "annotations": boxes}
    return make_coco(root, made["train"], made["test"])


def described(spec, folder):
    told = {"kind": "detection", "method": "fvit", "data": spec, "tasks": [["dog"]]}
    (folder / "mine.yaml").write_text(json.dumps(told))
    return describe(str(folder / "mine.yaml"))


@pytest.mark.parametrize("on_bad_box", ["fail", "clip", "skip"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", FRACTIONS)
def test_a_split_of_fractions_is_refused(tmp_path, monkeypatch, name, split, on_bad_box):
    monkeypatch.chdir(tmp_path)
    spec = coco(tmp_path / "data", [FRACTIONS[name]] * 3, split=split) | {"on_bad_box": on_bad_box}
    for look in (
        lambda: prepare(spec, tmp_path / "out"),
        lambda: described(spec, tmp_path),
        lambda: data_version(spec),
    ):
        with pytest.raises(InputError, match=rf"all 3 boxes of {split} within 1 x 1 px.*pixels"):
            look()


@pytest.mark.parametrize(
    ("small", "large", "told"), [(1, 0, None), (1, 1, True), (3, 7, True), (1, 99, True)]
)
def test_a_share_of_fractions_is_told(tmp_path, monkeypatch, small, large, told):
    monkeypatch.chdir(tmp_path)
    spec = coco(tmp_path / "data", [[0.1, 0.2, 0.5, 0.5]] * small, large)
    if told is None:
        with pytest.raises(InputError, match="the one box of train within 1 x 1 px"):
            prepare(spec, tmp_path / "out")
        return
    line = f"{small} of {small + large} train boxes lie within 1 x 1 px"
    assert any(line in said for said in described(spec, tmp_path)["warnings"])
    prepare(spec, tmp_path / "out")
    assert any(line in said for said in read(tmp_path / "out/index.json")["warnings"])


@pytest.mark.parametrize("small", [[0.5, 0.2, 1.5, 0.5], [3, 4, 0.5, 0.5], [0, 0, 1, 2]])
def test_small_boxes_in_pixels_are_fine(tmp_path, small):
    prepare(coco(tmp_path / "data", [small] * 3), tmp_path / "out")
    assert "1 x 1" not in " ".join(read(tmp_path / "out/index.json")["warnings"])


@pytest.mark.parametrize("corners", [(0.1, 0.2, 0.5, 0.9), (0, 0, 1, 1), (0.0, 0.5, 1.0, 1.0)])
def test_voc_corners_as_fractions_are_refused(tmp_path, corners):
    files = {"000005": [thing("dog", corners)] * 2, "000012": [], "000007": [thing("dog")]}
    make_voc(tmp_path, files, LISTS)
    with pytest.raises(InputError, match=r"all 2 boxes of train within 1 x 1 px.*000005.xml"):
        prepare({"format": "voc", "root": str(tmp_path)}, tmp_path / "out")
