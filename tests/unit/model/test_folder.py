"""A trained run as a model folder: what is in it, and what is said of a damaged one."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

import clclip
from clclip.cli.main import main
from clclip.core.digest import digest
from clclip.core.errors import InputError
from clclip.detection.weights import read_weights
from clclip.model.card import read_card, write_card
from clclip.model.export import export
from tests.helpers.model import NAMES, draw_boxes, draw_folders, train, write_experiment
from tests.helpers.model_runs import GROUPS


@pytest.fixture
def model(cards_model, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(cards_model, tmp_path / "model")


def same(one, other):
    """Whether two lists of detections are equal bit for bit."""
    return len(one) == len(other) and all(
        np.array_equal(a.boxes, b.boxes)
        and np.array_equal(a.scores, b.scores)
        and a.names == b.names
        for a, b in zip(one, other, strict=True)
    )


def test_a_folder_alone_says_what_the_run_says(boxes_run, model, tmp_path, monkeypatch):
    images = boxes_run.parents[2] / "boxes/images"
    told = clclip.load_model(boxes_run)(images, threshold=0)
    monkeypatch.chdir(tmp_path)  # no resources here, and none beside the model
    assert sum(map(len, told)) > 50
    assert same(clclip.load_model(model)(images, threshold=0), told)


def test_the_model_after_an_earlier_task(boxes_run, tmp_path):
    images = boxes_run.parents[2] / "boxes/images"
    card = export(boxes_run, tmp_path / "first", task=1)
    assert card["classes"] == GROUPS[0] and not (tmp_path / "first/task2").exists()
    told = clclip.load_model(boxes_run, task=1)(images, threshold=0)
    assert same(clclip.load_model(tmp_path / "first")(images, threshold=0), told)


def test_the_card_tells_all(model):
    card = read_card(model)
    assert card["classes"] == NAMES[:4] and [p["classes"] for p in card["parts"]] == GROUPS
    assert [part["competitors"] for part in card["parts"]] == [[], GROUPS[0]]
    assert [entry["id"] for entry in card["categories"]] == [3, 4, 5, 6]
    assert card["preprocessing"]["canvas"] == 64 and card["clip"]["model"] == "embedded"
    assert card["scores"]["metrics"].keys() == {"P", "C", "A"} and card["memory"] == "none"
    names = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert set(card["files"]) == names - {"card.json", "README.md"}
    assert card["text"]["file"] in names and card["clip"]["included"]


def test_the_readme_is_a_card_of_the_hub(model):
    card = ModelCard.load(model / "README.md")
    assert card.data.pipeline_tag == "object-detection" and card.data.library_name == "clclip"
    assert card.data.eval_results[0].dataset_name.startswith("boxes-")
    for name in NAMES[:4]:
        assert f"| {name} |" in card.text
    assert yaml.safe_load(card.content.split("---")[1])["tags"][-1] == "clclip"


def test_a_folder_is_replaced_whole_or_not_at_all(model, boxes_run, tmp_path):
    export(boxes_run, model, task=1)
    assert read_card(model)["classes"] == GROUPS[0] and not (model / "clip").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="other things"):
        export(boxes_run, tmp_path / "mine")
    broken = shutil.copytree(boxes_run, tmp_path / "broken/results/x/seed0")
    (broken / "task2/weights.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="safetensors"):
        export(broken, tmp_path / "never", resources=boxes_run.parents[2] / "resources")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "mine", "model"]


def test_the_older_form_is_refused_with_the_new_one(boxes_run, tmp_path):
    with pytest.raises(InputError, match=r"model.safetensors.*--out .*model/"):
        export(boxes_run, tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("method", "kind", "prefix"),
    [
        ("seca_pp", "classification", "gaussian."),
        ("fvit_replay", "detection", "memory."),
    ],
)
def test_memory_is_left_out_unless_asked_for(method, kind, prefix, tmp_path):
    draw_boxes(tmp_path / "boxes", NAMES) if kind == "detection" else draw_folders(
        tmp_path / "folders", NAMES[:4]
    )
    keys = {"kind": kind, "method": method, "tasks": GROUPS[:1]}
    run = train(write_experiment(tmp_path, "remembers", **keys))
    sizes = {}
    for kept in (False, True):
        card = export(run, tmp_path / "model", with_memory=kept)
        tensors, _ = read_weights(tmp_path / "model/task1/weights.safetensors")
        sizes[kept] = any(name.startswith(prefix) for name in tensors)
        assert card["memory"] == ("included" if kept else "left out")
        assert clclip.load_model(tmp_path / "model").classes == NAMES[:2]
    assert sizes == {False: False, True: True}


def tampered(model):
    path = model / "task2/weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def gone(model):
    (model / "task1/task.json").unlink()


def of_the_future(model):
    card = json.loads((model / "card.json").read_text()) | {"format": 2}
    (model / "card.json").write_text(json.dumps(card))


def edited(model):
    card = json.loads((model / "card.json").read_text())
    card["classes"][0] = "apple"
    (model / "card.json").write_text(json.dumps(card))


def outside(model):
    card = json.loads((model / "card.json").read_text())
    card["files"]["../../etc/passwd"] = "0" * 64
    del card["digest"]
    (model / "card.json").write_text(json.dumps(card | {"digest": digest(card, 64)}))


def other_tower(model):
    card = read_card(model)
    write_card(model, card | {"clip": {**card["clip"], "sha256": "0" * 64}})


def no_classes(model):
    card = read_card(model)
    write_card(model, {key: value for key, value in card.items() if key != "classes"})


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (tampered, "has changed .*task2/weights.safetensors"),
        (gone, "missing.*task1/task.json"),
        (of_the_future, "format 2, newer .*card.json"),
        (edited, "changed since it was written, in .*card.json"),
        (outside, "the file name '../../etc/passwd'"),
        (other_tower, "another tower .*00000000"),
        (no_classes, "classes: Field required"),
        (lambda model: (model / "card.json").write_text("{"), "not JSON"),
        (lambda model: (model / "card.json").unlink(), "neither|no"),
    ],
)
def test_a_damaged_model_is_one_line(model, damage, text):
    damage(model)
    with pytest.raises(InputError, match=text):
        clclip.load_model(model)


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        clclip.load_model(tmp_path / "gone")
    with pytest.raises(InputError, match="neither a model nor a run"):
        clclip.load_model(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file"):
        clclip.load_model(tmp_path / "file")


@pytest.mark.parametrize("name", ["calibration.json", "gate.safetensors"])
def test_a_file_that_the_card_does_not_list_is_not_read(model, boxes_run, name, capsys, tmp_path):
    (model / "task1" / name).write_text("{}")
    expected = f"a file that card.json does not list.*{name}"
    with pytest.raises(InputError, match=expected) as error:
        clclip.load_model(model)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=expected):
        export(model, tmp_path / "again")
    images, out = str(boxes_run.parents[2] / "boxes/images"), tmp_path / "found"
    assert main(["detect", "--model", str(model), images, "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not out.exists()
    write_card(model, read_card(model, check_files=False))
    read_card(model)
