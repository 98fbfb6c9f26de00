"""``clclip advise``: which classifier suits a folder, by folds over frozen features."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clclip.classification.features import builder
from clclip.classification.tools import advise as tool
from clclip.cli.main import main
from clclip.clip.load import LoadedClip
from clclip.core.errors import InputError
from tests.helpers import closed_form as making
from tests.helpers import seca


def clip():
    """Return a CLIP of random weights."""
    half = (0.5, 0.5, 0.5)
    model = seca.small_clip()
    return LoadedClip(model, seca.tokenizer, 32, half, half, 24, 8, "small")


def write_folder(base, counts, train="train"):
    """Write so many images of each colour below ``base``; return the paths and labels."""
    draws, paths, labels = np.random.default_rng(0), [], []
    for name, count in counts.items():
        colour = {"red": (250, 20, 20), "green": (20, 250, 20), "blue": (20, 20, 250)}[name]
        for k in range(count):
            path = base / train / name / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(np.array(colour) + draws.normal(0, 40, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            paths.append(path)
            labels.append(name)
    return paths, labels


def test_images_held_out_are_judged_without_themselves():
    data = making.draw(1)
    x, y = data["train"]
    rng = np.random.default_rng(0)
    folds = np.arange(len(y)) % 5
    shuffled = rng.permutation(y)
    tables = tool.cross_validated(x, shuffled, folds, data["text"])
    for name in ("ncm", "ridge", "ranpac", "gda"):  # labels that mean nothing are not known again
        assert (tables[name].argmax(axis=1) == shuffled).mean() < 0.4, name
    tables = tool.cross_validated(x, y, folds, data["text"])
    assert (tables["gda"].argmax(axis=1) == y).mean() > 0.8


def test_a_folder_is_told_class_by_class(tmp_path):
    paths, labels = write_folder(tmp_path, {"red": 8, "green": 7, "blue": 6})
    found = tool.advise(clip(), paths, labels, {})
    assert found.classes == ["blue", "green", "red"] and found.images == [6, 7, 8]
    assert found.accuracy("ncm") > 90
    text = tool.as_text(found)
    assert "21 of 21 training images" in text and "Run `method:" in text and "names" in text
    values = found.values()
    assert set(values["accuracy"]) == set(tool.CANDIDATES)
    mean = np.average([values["per_class"][n]["ncm"] for n in found.classes], weights=found.images)
    assert values["accuracy"]["ncm"] == pytest.approx(mean, abs=0.05)


def test_every_class_is_looked_at_when_time_is_short():
    order = tool.in_turn(["a"] * 5 + ["b"] * 2)
    assert order == [0, 5, 1, 6, 2, 3, 4]


def test_no_time_still_shows_five_images_of_each_class(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "BATCH", 4)
    paths, labels = write_folder(tmp_path, {"red": 20, "green": 20, "blue": 5})
    found = tool.advise(clip(), paths, labels, {}, seconds=1e-9)
    assert found.images == [5, 5, 6] and found.all_images == 45  # blue, green, red
    assert "16 of 45 training images" in tool.as_text(found)


@pytest.mark.parametrize(
    ("counts", "told"), [({"red": 9}, "1 class"), ({"red": 9, "blue": 4}, "'blue' has 4 images")]
)
def test_too_little_to_tell_is_refused(counts, told, tmp_path):
    paths, labels = write_folder(tmp_path, counts)
    with pytest.raises(InputError, match=told):
        tool.advise(clip(), paths, labels, {})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere"], "no such folder or file"),
        (["data", "--clip", "nowhere"], "no such folder 'nowhere'"),
        (["data", "--clip", '{"model": "ViT-B-17"}'], "ViT-B-17"),
        (["data", "--seconds", "0"], "got 0.0"),
        (["empty"], "empty"),
    ],
)
def test_bad_input_is_one_line(options, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data", {"red": 5, "blue": 5})
    (tmp_path / "empty").mkdir()
    assert main(["advise", *options]) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("train", ["train", ""])
def test_command_reads_both_layouts(train, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data", {"red": 6, "blue": 6}, train)
    assert main(["advise", "data", "--out", "advice.json"]) == 0
    assert "12 of 12 training images" in capsys.readouterr().out
    assert json.loads((tmp_path / "advice.json").read_text())["images"] == 12


def test_batches_hold_the_features_of_their_images_in_order(tmp_path, monkeypatch):
    paths, _ = write_folder(tmp_path, {"red": 4, "blue": 3})
    whole = builder.image_features(clip(), paths, None, True)
    monkeypatch.setattr(builder, "BATCH", 3)
    parts = list(builder.feature_batches(clip(), paths, None, True))
    assert [len(part["image"]) for part in parts] == [3, 3, 1]
    for view in ("image", "mirrored"):
        found = np.concatenate([part[view] for part in parts])
        np.testing.assert_allclose(found, whole[view], atol=1e-5)
    paths[4].write_bytes(b"no image")
    with pytest.raises(InputError, match=paths[4].name):
        list(builder.feature_batches(clip(), paths, None, True))
