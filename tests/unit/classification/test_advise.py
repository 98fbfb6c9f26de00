"""``clclip advise``: which classifier suits a folder, by folds over frozen features."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clclip.classification.features import builder
from clclip.classification.tools import advise as tool
from clclip.classification.tools import folds as folding
from clclip.classification.tools.time_limit import TimeLimit
from clclip.cli.main import main
from clclip.clip.load import LoadedClip
from clclip.core.errors import InputError
from clclip.workflow.advise_data import of_folder
from tests.helpers import closed_form as making
from tests.helpers import seca


def clip():
    """Return a CLIP of random weights."""
    half = (0.5, 0.5, 0.5)
    model = seca.small_clip()
    return LoadedClip(model, seca.tokenizer, 32, half, half, 24, 8, "small")


class HandClock:
    """A clock that nothing but a test turns."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def costing(clock, seconds, function):
    """Return the function, which now takes so many seconds of a clock."""

    def slow(*given):
        clock.now += seconds
        return function(*given)

    return slow


def with_costs(monkeypatch, clock, *, batch, fold, work=0.0):
    """Let batches of four images and folds take seconds of a clock; ``work``: all folds, told."""

    def batches(_, paths, *__):
        for start in range(0, len(paths), 4):
            clock.now += batch
            rows = [float(path.parent.name == "red") for path in paths[start : start + 4]]
            yield {"image": np.random.default_rng(start).normal(size=(len(rows), 24)) + rows[0]}

    monkeypatch.setattr(builder, "BATCH", 4)
    monkeypatch.setattr(builder, "feature_batches", batches)
    monkeypatch.setattr(tool, "seconds_of_a_product", lambda _: 1.0)
    monkeypatch.setattr(tool, "multiplications", lambda *_: work)
    monkeypatch.setattr(folding._Space, "score", costing(clock, fold / 2, folding._Space.score))


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
    tables = folding.cross_validated(x, shuffled, folds, data["text"]).tables
    for name in ("ncm", "ridge", "ranpac", "gda"):  # labels that mean nothing are not known again
        assert (tables[name].argmax(axis=1) == shuffled).mean() < 0.4, name
    tables = folding.cross_validated(x, y, folds, data["text"]).tables
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
    found = tool.advise(clip(), paths, labels, {}, limit=TimeLimit(1e-9))
    assert found.images == [5, 5, 6] and found.all_images == 45  # blue, green, red
    assert found.folds == 1 and len(found.labels) < 16
    text = tool.as_text(found)
    assert "16 of 45 training images" in text and "Longer all the same" in text
    assert "29 of 45 images were not looked at and 4 of 5 folds were not run" in text


def test_looking_leaves_time_for_the_folds(tmp_path, monkeypatch):
    paths, labels = write_folder(tmp_path, {"red": 60, "blue": 60})
    clock = HandClock()
    with_costs(monkeypatch, clock, batch=1.0, fold=2.0, work=10.0)
    found = tool.advise(clip(), paths, labels, {}, limit=TimeLimit(20, clock))
    assert sum(found.images) == 36 and found.seconds == 19  # 9 batches of 1 s, 5 folds of 2 s
    assert found.folds == 5 and len(found.labels) == 36
    assert "Left out to end within 20 s: 84 of 120 images were not looked at." in tool.as_text(
        found
    )


def test_folds_that_take_longer_than_was_thought_are_left_out(tmp_path, monkeypatch):
    paths, labels = write_folder(tmp_path, {"red": 20, "blue": 20})
    clock = HandClock()
    with_costs(monkeypatch, clock, batch=1.0, fold=4.0)
    found = tool.advise(clip(), paths, labels, {}, limit=TimeLimit(20, clock))
    assert found.images == [20, 20] and found.folds == 2 and found.seconds == 18
    held_out = sum(tool.fold_of(str(path)) < 2 for path in paths)
    assert len(found.labels) == held_out < 40
    text = tool.as_text(found)
    assert f"20 s: 3 of 5 folds were not run, so the table is of {held_out} images." in text
    assert found.values()["held_out"] == held_out and found.values()["images"] == 40


def test_what_is_not_counted_moves_the_limit():
    clock = HandClock()
    limit = TimeLimit(5, clock)
    clock.now = 1.0
    with limit.stopped():
        clock.now = 100.0
    clock.now = 102.0
    assert limit.taken == 3 and limit.left == 2


def test_the_estimate_grows_with_all_that_costs():
    base = folding.multiplications(100, 64, 10)
    for more in ((200, 64, 10), (100, 512, 10), (100, 64, 1000)):
        assert folding.multiplications(*more) > base
    clock = HandClock()
    assert folding.seconds_of_a_product(clock) == 0


def test_a_class_without_held_out_images_has_no_accuracy(tmp_path):
    paths, labels = write_folder(tmp_path, {"red": 8, "blue": 6})
    found = tool.advise(clip(), paths, labels, {})
    found = dataclasses.replace(
        found,
        correct={m: found.correct[m][found.labels == 1] for m in found.correct},
        labels=found.labels[found.labels == 1],
    )
    assert found.of_class("ncm", 0) is None and found.values()["per_class"]["blue"]["ncm"] is None
    assert tool.as_text(found).splitlines()[1].split()[:3] == ["blue", "6", "-"]


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
        (["data", "--seconds", "nan"], "got nan"),
        (["empty"], "empty"),
        (["/"], "the top of the file system"),
    ],
)
def test_bad_input_is_one_line(options, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data", {"red": 5, "blue": 5})
    (tmp_path / "empty").mkdir()
    assert main(["advise", *options]) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("broken", ["last header", "first pixels"])
def test_a_broken_image_is_told_before_torch_is_imported(broken, tmp_path):
    paths, _ = write_folder(tmp_path / "data", {"red": 80, "blue": 80}, "")
    bad = paths[-1] if broken == "last header" else paths[0]
    whole = bad.read_bytes()
    bad.write_bytes(b"no image" if broken == "last header" else whole[: len(whole) // 2])
    code = (
        "import sys; from clclip.cli.main import main; status = main(['advise', 'data']); "
        "assert not {'torch', 'open_clip'} & set(sys.modules), 'torch'; sys.exit(status)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 2 and told.stderr.count("\n") == 1, told.stderr
    assert told.stderr.startswith("error: broken image") and bad.name in told.stderr


BOXES = {"images": [], "annotations": [], "categories": []}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["images/a.png", "train.json", "test.json"], ["boxes (coco)", "`clclip init`"]),
        (["images/a.png", "train.json"], ["boxes (coco)"]),  # init would ask for a test file
        (["VOC2012/Annotations/a.xml", "VOC2012/JPEGImages/a.png"], ["boxes (voc)"]),
        (["data.yaml", "images/train/a.png", "labels/train/a.txt"], ["boxes (yolo)"]),
        (["red/a.png", "red/b.png", "red/c.png"], ["one class ('red')", "at least two classes"]),
        (["in/train/red/a.png", "in/train/red/b.png", "in/x/c.png"], ["one class", "data/in the"]),
        (["red/a.png", "red/b.png", "red/c.png", "two  words/ä.png"], ["'two words' has 1 image,"]),
    ],
)
def test_a_folder_that_is_no_set_of_classes_is_told_as_what_it_is(
    files, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    content = {".json": json.dumps(BOXES), ".yaml": "names: [red]\ntrain: images/train"}
    for name in files:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.get(path.suffix, ""))
    assert main(["advise", "data"]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in told), error
    assert error.startswith("error: ") and error.count("\n") == 1


def test_a_folder_without_images_is_left_out_and_told(tmp_path, caplog):
    write_folder(tmp_path / "data", {"red": 5, "blue": 5}, "")
    (tmp_path / "data" / "notes").mkdir()
    assert sorted(set(of_folder(tmp_path / "data", None).labels)) == ["blue", "red"]
    assert "left out: empty class folder 'notes'" in caplog.text


def test_a_folder_may_be_named_from_inside(tmp_path, monkeypatch):
    write_folder(tmp_path / "data", {"red": 5, "blue": 5}, "")
    (tmp_path / "data" / "red" / "more").mkdir()
    for place in (".", "..", "../.."):
        monkeypatch.chdir(tmp_path / "data" / {".": "", "..": "red", "../..": "red/more"}[place])
        found = of_folder(Path(place), None)
        assert len(found.paths) == 10 and all(path.is_file() for path in found.paths)


def test_names_that_are_right_by_themselves_are_not_said_to_be_of_no_help(tmp_path):
    paths, labels = write_folder(tmp_path, {"red": 8, "blue": 6})
    found = tool.advise(clip(), paths, labels, {})
    right = {method: np.ones(14, dtype=bool) for method in found.correct}
    text = tool.sentences(dataclasses.replace(found, correct=right, text_gain=(0.0, 0.0)))
    assert "Run `method: zeroshot`" in text and "names alone are enough" in text
    assert "do not help" not in text


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
