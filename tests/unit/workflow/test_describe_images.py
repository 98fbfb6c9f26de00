"""`clclip describe --check-images` opens every image and tells what `prepare` would."""

import json
import tempfile

import pytest
from PIL import Image

from clclip.cli.main import main
from tests.helpers.cards import NAMES, write_coco, write_experiment

ODD = {  # damage to the data set, part of the warning
    "animated": (
        lambda root: Image.new("RGB", (32, 24)).save(
            root / "images/train2.png",
            "GIF",
            save_all=True,
            append_images=[Image.new("RGB", (32, 24), "white")],
        ),
        "first frame used",
    ),
    "a box over the border": (
        lambda root: edit(root, lambda data: data["annotations"][0].update(bbox=[28, 1, 8, 9])),
        "boxes clipped at the border",
    ),
    "an image listed twice": (
        lambda root: edit(root, lambda data: data["images"][1].update(file_name="train1.png")),
        "image listed twice in train",
    ),
}
BROKEN = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:45]),
    "text": lambda path: path.write_text("no image"),
    "another size": lambda path: Image.new("RGB", (9, 9)).save(path),
}


def edit(root, change):
    """Change the training annotations."""
    data = json.loads((root / "train.json").read_text())
    change(data)
    (root / "train.json").write_text(json.dumps(data))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """An experiment on a small data set, in the working directory; temporary files beside it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    data = write_coco(tmp_path / "cards") | {"on_bad_box": "clip"}
    return write_experiment(tmp_path, data, tasks=[[name] for name in NAMES])


def checked(file, capsys):
    """Describe with --check-images; return the warnings."""
    assert main(["describe", file, "--check-images", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)["warnings"]


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_told_and_nothing_stays_on_the_disk(file, tmp_path, capsys, name):
    damage, part = ODD[name]
    assert not any(part in line for line in checked(file, capsys))
    damage(tmp_path / "cards")
    assert [part in line for line in checked(file, capsys)].count(True) == 1
    assert main(["describe", file, "--check-images"]) == 0
    assert capsys.readouterr().out.count(part) == 1
    assert list((tmp_path / "tmp").iterdir()) == [] and not (tmp_path / "resources").exists()


@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_prepare_refuses_is_refused(file, tmp_path, capsys, name):
    BROKEN[name](tmp_path / "cards/images/train3.png")
    assert main(["describe", file, "--check-images"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "train3.png" in said.err and len(said.err.splitlines()) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_data_that_is_not_there_is_described_all_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = {"format": "coco", "root": "none", "train": "train.json", "test": "test.json"}
    assert main(["describe", write_experiment(tmp_path, data), "--check-images"]) == 0
    assert "MISSING" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["gone", "a link to nothing", "empty"])
def test_images_that_are_skipped_are_told_by_describe_as_by_prepare(
    tmp_path, monkeypatch, capsys, damage
):
    monkeypatch.chdir(tmp_path)
    data = write_coco(tmp_path / "cards") | {"on_bad_image": "skip"}
    file = write_experiment(tmp_path, data, tasks=[["ace"], ["jack"]])
    for number in (2, 4):
        image = tmp_path / f"cards/images/train{number}.png"
        image.unlink()
        if damage == "empty":
            image.touch()
        elif damage != "gone":
            image.symlink_to(tmp_path / "nowhere.png")
    assert main(["describe", file, "--json"]) == 0
    (line,) = [w for w in json.loads(capsys.readouterr().out)["warnings"] if "bad" in w]
    assert line.startswith("2 bad images left out, first: 'train2.png'")
    (other,) = [w for w in checked(file, capsys) if "bad" in w]
    assert other.startswith("2 bad images left out, first: 'train2.png'")
