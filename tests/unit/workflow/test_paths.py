"""Where relative paths of experiment files start, as the page "Your own data" tells."""

import json
import shutil

import pytest
import yaml

import clclip.clip.ids as ids
from clclip.cli.main import main

COCO = {"format": "coco", "root": "d", "images": "i", "train": "t.json", "test": "u.json"}
MINE = {"kind": "detection", "method": "fvit", "tasks": [["a"]], "data": COCO}
VOC = {"base": "voc_10_10_fvit"}

FILES = {  # name of the case -> ({file: values}, what is described, where data.root starts)
    "own file": ({"e/mine.yaml": MINE}, "e/mine.yaml", "e"),
    "own file, from beside it": ({"mine.yaml": MINE}, "mine.yaml", "."),
    "base writes the root": (
        {"b/base.yaml": MINE, "e/mine.yaml": {"base": "../b/base.yaml"}},
        "e/mine.yaml",
        "b",
    ),
    "own file writes it over that of the base": (
        {"b/base.yaml": MINE, "e/mine.yaml": {"base": "../b/base.yaml", "data": {"root": "x"}}},
        "e/mine.yaml",
        "e",
    ),
    "own file writes another key of data": (
        {
            "b/base.yaml": MINE,
            "e/mine.yaml": {"base": "../b/base.yaml", "data": {"on_bad_box": "clip"}},
        },
        "e/mine.yaml",
        "b",
    ),
    "shipped stream through base": ({"e/mine.yaml": VOC}, "e/mine.yaml", "e"),
    "shipped stream through two bases": (
        {"b/base.yaml": VOC, "e/mine.yaml": {"base": "../b/base.yaml", "seeds": [1]}},
        "e/mine.yaml",
        "b",
    ),
    "shipped stream, root of one's own": (
        {"e/mine.yaml": VOC | {"data": {"root": "x"}}},
        "e/mine.yaml",
        "e",
    ),
    "shipped name": ({}, "voc_10_10_fvit", "."),
}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The working directory, a folder below which nothing of the data lies."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def written(work, files):
    """Write experiment files."""
    for name, values in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(yaml.safe_dump(values))


def described(capsys, *arguments):
    """Return what describe says, as JSON."""
    capsys.readouterr()
    status = main(["describe", *arguments, "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize("name", FILES)
def test_the_root_of_the_data(work, capsys, tmp_path, name):
    files, entry, start = FILES[name]
    written(work, files)
    found = described(capsys, entry)["data"]["where"]
    assert found.startswith(f"{(work / start).resolve()}/"), found
    below = found.removeprefix(f"{(work / start).resolve()}/")
    moved = described(capsys, entry, "--data-root", str(tmp_path / "data"))["data"]["where"]
    assert moved == f"{tmp_path}/data/{below}"


CLIPS = {  # ({file: its section clip}, what is described, where the weights lie)
    "own file": ({"e/mine.yaml": {"file": "w.safetensors"}}, "e"),
    "own file, a folder up": ({"e/mine.yaml": {"file": "../w.safetensors"}}, "."),
    "base": ({"b/base.yaml": {"file": "w.safetensors"}, "e/mine.yaml": None}, "b"),
    "base and another key": (
        {"b/base.yaml": {"file": "w.safetensors"}, "e/mine.yaml": {"model": "embedded"}},
        "b",
    ),
    "own file over that of the base": (
        {"b/base.yaml": {"file": "none.pt"}, "e/mine.yaml": {"file": "w.safetensors"}},
        "e",
    ),
}


@pytest.mark.parametrize("name", CLIPS)
def test_the_weights_of_the_clip(work, capsys, tmp_path, name):
    sections, place = CLIPS[name]
    based = "b/base.yaml" in sections
    for path, clip in sections.items():
        of = {"base": "../b/base.yaml"} if based and path.startswith("e/") else MINE
        written(work, {path: of | ({"clip": clip} if clip else {})})
    shutil.copy(ids.WEIGHTS / "embedded.safetensors", work / place / "w.safetensors")
    for more in ([], ["--data-root", str(tmp_path)]):  # which says nothing of a CLIP
        found = described(capsys, "e/mine.yaml", *more)["clip"]["where"]
        assert found == str((work / place).resolve() / "w.safetensors")


@pytest.mark.parametrize("clip", [{"file": "w.pt"}, {"file": "deep/w.pt"}, {"file": "../w.pt"}])
def test_weights_that_are_not_there_are_told_with_their_place(work, capsys, clip):
    written(work, {"e/mine.yaml": MINE | {"clip": clip}})
    assert main(["describe", "e/mine.yaml"]) == 2
    assert str((work / "e" / clip["file"]).resolve()) in capsys.readouterr().err
