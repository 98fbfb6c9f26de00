"""``clclip merge``: two models side by side, each as it was, and what is learned after it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml

import clclip
from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.detection.stages.probe import activations
from clclip.detection.stages.recall import proposals_of
from clclip.detection.tools import open_vocabulary
from clclip.detection.weights import read_weights
from clclip.model.card import read_card, write_card
from clclip.model.change.drop import drop
from clclip.model.change.merge import merge
from clclip.model.export import export
from clclip.model.use.merged import Merged
from clclip.model.use.words import chosen_classes
from clclip.model.verify import verify
from tests.helpers.model import NAMES, draw_boxes, train, write_experiment
from tests.helpers.model_runs import BOXES

OTHERS = [NAMES[4], NAMES[3]]  # the second is in both models


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """A model of two tasks that never saw an image of the other's."""
    work = tmp_path_factory.mktemp("second")
    draw_boxes(work / "boxes", OTHERS, count=8, first=300)
    run = train(write_experiment(work, "second", method="clclip", tasks=[[n] for n in OTHERS]))
    export(run, work / "model")
    return work / "model"


@pytest.fixture(scope="module")
def both(cards_model, second, tmp_path_factory):
    """Both models as one."""
    out = tmp_path_factory.mktemp("both") / "model"
    words = ["merge", str(cards_model), str(second), "--out", str(out)]
    assert main([*words, "--rename", f"{NAMES[3]}=yellow square"]) == 0
    return out


@pytest.fixture(scope="module")
def images(boxes_run):
    return boxes_run.parents[2] / "boxes/images"


def same(one, other):
    """Whether two answers hold equal boxes and scores, by class."""
    assert len(one) == len(other) > 0
    return (one.boxes == other.boxes).all() and (one.scores == other.scores).all()


def test_each_half_is_bit_for_bit_what_it_was(cards_model, second, both, images):
    found = verify(cards_model, both, [images])
    assert found.passed and [row["status"] for row in found.classes.values()] == [
        *["unchanged"] * 4,
        *["new"] * 2,
    ]
    assert sum(row.get("old", 0) for row in found.classes.values()) > 50
    whole = clclip.load_model(both)
    half = clclip.load_model(second, resources=cards_model)
    files, seen = sorted(images.glob("*.png"))[:8], 0
    pairs = zip(whole.candidates(files, batch=8), half.candidates(files, batch=8), strict=True)
    for (_, one), (_, other) in pairs:
        for name, new in ((NAMES[4], NAMES[4]), (NAMES[3], "yellow square")):
            ours = one.chosen(one.labels == whole.classes.index(new))
            theirs = other.chosen(other.labels == half.classes.index(name))
            if len(theirs):
                assert same(ours, theirs)
                seen += len(theirs)
    assert seen > 10


def test_the_card_of_a_merged_model(cards_model, second, both):
    card = read_card(both)
    assert card["classes"] == [*NAMES[:4], NAMES[4], "yellow square"]
    assert [part["origin"] for part in card["parts"]] == [1, 1, 3, 3]
    assert [part["competitors"] for part in card["parts"]] == [[], NAMES[:2], [], [NAMES[4]]]
    assert card["text"]["names"]["yellow square"] == NAMES[3]
    ids = [entry["id"] for entry in card["categories"]]
    assert len(set(ids)) == 6 and ids[4] == NAMES.index(NAMES[4]) + 3
    assert card["merged_from"] == [read_card(place)["digest"] for place in (cards_model, second)]
    for name in ("task1/weights.safetensors", "task2/weights.safetensors", "task1/task.json"):
        assert card["files"][name] == read_card(cards_model)["files"][name]
    ours, _ = read_weights(both / "task3/weights.safetensors")
    theirs, _ = read_weights(second / "task1/weights.safetensors")
    assert torch.equal(ours["paths.2.box.weight"], theirs["paths.0.box.weight"])
    gate, _ = read_weights(both / "task3/gate.safetensors")
    assert gate.keys() == {name for name in theirs if name.startswith("gate.")}


def test_merge_then_learn_on_then_drop_then_verify(cards_model, both, images, tmp_path):
    """The whole of what a model is: parts that are joined, added and hidden."""
    shutil.copytree(both, tmp_path / "model")
    draw_boxes(tmp_path / "boxes", ["cyan square"], count=6, first=500)
    values = {"start": "model", "tasks": [["cyan square"]], "data": BOXES}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(values))
    run = train(tmp_path / "more.yaml")
    task = json.loads((run / "task5/task.json").read_text())
    assert task["origins"] == [1, 1, 3, 3, 1] and task["task"] == 5
    rows = json.loads((run / "task5/predictions.json").read_text())
    names = {
        c["id"]: c["name"] for c in json.loads((run / "task5/test.json").read_text())["categories"]
    }
    assert {names[row["category_id"]] for row in rows} & {"cyan square", "yellow square"}
    export(run, tmp_path / "more", resources=tmp_path / "resources")
    found = verify(both, tmp_path / "more", [images], resources=tmp_path / "resources")
    assert found.passed and found.classes["cyan square"]["status"] == "new"
    card = read_card(tmp_path / "more")
    assert card["parts"][4]["competitors"] == [*NAMES[:4], NAMES[4], "yellow square"]
    drop(tmp_path / "more", [NAMES[0], "yellow square"], tmp_path / "less")
    found = verify(tmp_path / "more", tmp_path / "less", [images], resources=tmp_path / "resources")
    assert found.passed and found.classes["cyan square"]["status"] == "unchanged"
    assert found.classes["yellow square"]["status"] == "gone"


def test_merging_merged_models(cards_model, second, both, images, tmp_path):
    rename = {name: f"other {name}" for name in read_card(cards_model)["classes"]}
    card = merge(both, cards_model, tmp_path / "three", rename)
    assert [part["origin"] for part in card["parts"]] == [1, 1, 3, 3, 5, 5]
    back = merge(cards_model, both, tmp_path / "back", rename)
    assert [part["origin"] for part in back["parts"]] == [1, 1, 3, 3, 5, 5]
    assert verify(cards_model, tmp_path / "back", [images]).passed
    whole, half = clclip.load_model(tmp_path / "back"), clclip.load_model(both)
    file = sorted(images.glob("*.png"))[:8]
    for (_, one), (_, other) in zip(
        whole.candidates(file, batch=8), half.candidates(file, batch=8), strict=True
    ):
        mine = one.chosen(one.labels >= 4)
        assert sorted(mine.scores.tolist()) == sorted(other.scores.tolist())


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    """A folder with two models of residual paths, and both as one."""
    work = tmp_path_factory.mktemp("residual")
    lines = {"one": [[NAMES[0]], [NAMES[1]]], "two": [[NAMES[4]], [NAMES[3]]]}
    keys = {"method": "clclip", "switches": {"adapter": "residual", "rest": 0.1}}
    draw_boxes(work / "boxes", [*NAMES, "cyan square"])
    for name, tasks in lines.items():
        run = train(write_experiment(work, name, tasks=tasks, **keys))
        export(run, work / f"{name}_model", with_tower=True)
    merge(work / "one_model", work / "two_model", work / "both")
    return work


def seen_by(model, files):
    """Return per part of a model the proposals on some images, and the activations there."""
    batches = []
    usual = model.detector.predict
    model.detector.predict = lambda batch: (batches.append(batch), usual(batch))[1]
    model(files, batch=len(files))
    (batch,) = batches
    proposals = [boxes for _, _, boxes in proposals_of(model.detector, batch)]
    assert all(map(same_boxes, proposals, usual(batch).proposals)), "as it detects"
    with torch.no_grad():
        return list(zip(proposals, activations(model.detector, batch), strict=True))


def same_boxes(one, other):
    return all(map(torch.equal, one, other)) and sum(map(len, one)) == sum(map(len, other)) > 0


def test_every_part_of_a_merged_model_proposes_what_it_proposed_alone(residual, images):
    """Other words than the classes (`--also`), and the probe, go through the parts as well."""
    files = sorted(images.glob("*.png"))[:4]
    one, two, both = (
        seen_by(clclip.load_model(residual / name), files)
        for name in ("one_model", "two_model", "both")
    )
    assert len(both) == 4
    for (boxes, answers), (whole_boxes, whole_answers) in zip([*one, *two], both, strict=True):
        assert same_boxes(boxes, whole_boxes)
        assert answers.keys() == whole_answers.keys()
        assert all(torch.equal(answers[name], whole_answers[name]) for name in answers)


def test_adapters_stay_on_the_pyramid_of_their_own_line(residual, images, tmp_path, monkeypatch):
    """Two streams of residual paths are merged, one is learned after it: no half changes."""
    for name in ("boxes", "both", "resources"):
        shutil.copytree(residual / name, tmp_path / name)
    one, two, both = residual / "one_model", residual / "two_model", tmp_path / "both"
    assert verify(one, both, [images]).passed
    halves = [clclip.load_model(place) for place in (one, two)]
    files, seen = sorted(images.glob("*.png"))[:8], 0
    answers = (model.candidates(files, batch=8) for model in (clclip.load_model(both), *halves))
    for (_, whole), (_, first), (_, second) in zip(*answers, strict=True):
        for half, start in ((first, 0), (second, 2)):
            for k in range(2):
                ours, theirs = (
                    whole.chosen(whole.labels == start + k),
                    half.chosen(half.labels == k),
                )
                assert len(ours) == len(theirs) and (not len(theirs) or same(ours, theirs))
                seen += len(theirs)
    assert seen > 10
    values = {"start": "both", "tasks": [["cyan square"], [NAMES[2]]], "data": BOXES}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(values))
    run = train(tmp_path / "more.yaml")
    kinds = [read_weights(run / f"task{n}/weights.safetensors")[0] for n in range(1, 7)]
    wholes = [any(".pyramid." in name for name in tensors) for tensors in kinds]
    assert wholes == [True, False, True, False, False, False]
    asked, row = [], {"AP": 1.0, "per_class": {}}
    monkeypatch.setattr(open_vocabulary, "_row", lambda _, model, *rest: asked.append(model) or row)
    words = ["unseen", "--run", str(run), "--out", str(tmp_path / "unseen.json")]
    assert main([*words, "--resources", str(tmp_path / "resources")]) == 0
    assert [type(model) for model in asked] == [Merged], "after task 5, of all lines"
    export(run, tmp_path / "more", resources=tmp_path / "resources")
    found = verify(both, tmp_path / "more", [images], resources=tmp_path / "resources")
    assert found.passed and found.classes["cyan square"]["status"] == "new"


def changed(place, tmp_path, **keys):
    """Return a copy of a model whose card says something else."""
    copy = shutil.copytree(place, tmp_path / "changed")
    card = read_card(copy)
    for key, value in keys.items():
        card[key] = {**card[key], **value}
    write_card(copy, card)
    return copy


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"clip": {"sha256": "0" * 64}}, "the tower embedded-"),
        ({"preprocessing": {"canvas": 128}}, "canvas 128.*expected 64"),
        ({"text": {"templates": ["a {}"]}}, "other templates of texts"),
    ],
)
def test_what_differs_is_refused_in_one_line(cards_model, second, tmp_path, keys, told):
    with pytest.raises(InputError, match=told):
        merge(cards_model, changed(second, tmp_path, **keys), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clashes_and_other_models_are_refused(cards_model, second, folders_run, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=f"class '{NAMES[3]}' in both.*--rename"):
        merge(cards_model, second, out)
    with pytest.raises(InputError, match="red squid"):
        merge(cards_model, second, out, {"red squid": "x"})
    export(folders_run, tmp_path / "classifier")
    with pytest.raises(InputError, match="a classification model"):
        merge(cards_model, tmp_path / "classifier", out)
    assert main(["merge", str(cards_model), str(second), "--rename", "x", "--out", str(out)]) == 2
    assert not out.exists()


def renamed(cards_model, second, out, new):
    """Merge by the command with a new name for the class of both models."""
    words = ["merge", str(cards_model), str(second), "--rename", f"{NAMES[3]}={new}"]
    return main([*words, "--out", str(out)])


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ("zero\u200bwidth", "U+200B"),
        ("\u200b", "U+200B"),
        ("two\nlines", "control characters"),
        ("  ", "blank"),
        ("\u202edesrever", "U+202E"),
    ],
)
def test_a_new_name_that_nobody_can_see_is_refused(
    cards_model, second, tmp_path, capsys, new, told
):
    assert renamed(cards_model, second, tmp_path / "out", new) == 2
    said = capsys.readouterr().err
    assert told in said and "--rename" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_new_name_is_canonical_and_drop_knows_all_its_spellings(cards_model, second, tmp_path):
    merged = tmp_path / "merged"
    assert renamed(cards_model, second, merged, " cafe\u0301  square") == 0
    assert read_card(merged)["classes"][-1] == "caf\u00e9 square"
    less = drop(merged, ["cafe\u0301 square", "caf\u00e9  square"], tmp_path / "less")
    assert less["classes"] == read_card(merged)["classes"][:-1]


def test_classes_of_older_merges_are_named_by_their_canonical_spelling():
    names = ["cat", "cafe\u0301 square"]
    assert chosen_classes(["caf\u00e9 square"], names) == ["cafe\u0301 square"]
    assert chosen_classes(["cat,cafe\u0301  square"], names) == names
    both = ["caf\u00e9", "cafe\u0301"]  # each is itself where it is given as it stands
    assert chosen_classes(both, both) == both


def test_another_network_is_refused(cards_model, second, tmp_path):
    copy = shutil.copytree(second, tmp_path / "copy")
    path = copy / "task2/task.json"
    plan = json.loads(path.read_text())
    for switches, told in (
        ({"expert_width": 8}, "switch expert_width: 8.*expected 32"),
        ({"shared": "drift"}, "shared: drift"),
        ({"adapter": "residual"}, "switch adapter: residual.*expected copy"),
    ):
        path.write_text(json.dumps(plan | {"switches": plan["switches"] | switches}))
        write_card(copy, read_card(copy, check_files=False))
        with pytest.raises(InputError, match=told):
            merge(cards_model, copy, tmp_path / "out")
