"""``start: MODEL``: a stream goes on from a model, with equal bytes to one that had all tasks."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import torch
import yaml
from safetensors.torch import save_file

import clclip
from clclip.cli.main import main
from clclip.clip.fetch import fetch_clip
from clclip.clip.text import read_background, read_text
from clclip.config.load import read_experiment
from clclip.core.errors import InputError
from clclip.evaluation.aggregate import aggregate_seed
from clclip.model.card import read_card, write_card
from clclip.model.change.start import check_taken_over, take_over
from clclip.model.export import export
from clclip.model.place import open_place
from clclip.model.verify import as_text, verify
from clclip.workflow.describe import describe, text
from tests.helpers.model import NAMES, draw_boxes, plan_of, train
from tests.helpers.model_runs import BOXES, GROUPS

MADE = ("weights.safetensors", "predictions.json", "scores.json", "train.json", "test.json")


def go_on(work, model, groups, name="go", **keys):
    """Write the experiment file that goes on from a model in ``work``."""
    shutil.copytree(model, work / "model", dirs_exist_ok=True)
    path = work / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"start": "model", "tasks": groups, **keys}))
    return path


@pytest.fixture(scope="module")
def first(boxes_run, tmp_path_factory):
    """The model after task 1 of ``boxes_run``."""
    out = tmp_path_factory.mktemp("first") / "model"
    export(boxes_run, out, task=1)
    return out


def test_equal_bytes_to_the_run_that_had_all_tasks(boxes_run, first, tmp_path):
    shutil.copytree(boxes_run.parents[2] / "boxes", tmp_path / "boxes")
    run = train(go_on(tmp_path, first, GROUPS[1:], data=BOXES))
    for name in MADE:
        one, other = (folder / "task2" / name for folder in (boxes_run, run))
        assert one.read_bytes() == other.read_bytes(), name
    task = json.loads((run / "task2/task.json").read_text())
    assert task["start"] == read_card(first)["digest"] and task["task"] == 2
    assert task["groups"] == GROUPS and "hidden" not in task
    images = sorted((tmp_path / "boxes/images").glob("*.png"))[:4]
    before, after = (clclip.load_model(p)(images, threshold=0) for p in (boxes_run, run))
    assert all((a.scores == b.scores).all() for a, b in zip(before, after, strict=True))


def test_a_new_class_with_the_text_of_an_old_one_is_a_remark(boxes_run, first, tmp_path):
    shutil.copytree(boxes_run.parents[2] / "boxes", tmp_path / "boxes")
    words = {GROUPS[1][0]: GROUPS[0][0]}
    told = describe(str(go_on(tmp_path, first, GROUPS[1:], data=BOXES, text=words)))["warnings"]
    assert any(f"{GROUPS[0][0]!r}, {GROUPS[1][0]!r} are all" in line for line in told), told


def test_a_classifier_goes_on_with_equal_bytes(folders_run, tmp_path):
    export(folders_run, tmp_path / "first", task=1)
    shutil.copytree(folders_run.parents[2] / "folders", tmp_path / "folders")
    data = {"format": "folder", "root": "folders"}
    run = train(go_on(tmp_path, tmp_path / "first", GROUPS[1:], data=data))
    for name in MADE:
        one, other = (folder / "task2" / name for folder in (folders_run, run))
        assert one.read_bytes() == other.read_bytes(), name


def test_new_data_needs_no_old_class(cards_model, tmp_path):
    draw_boxes(tmp_path / "boxes", NAMES[4:], count=4, first=50)
    run = train(go_on(tmp_path, cards_model, [NAMES[4:]], data=BOXES))
    assert (tmp_path / "resources/clip").is_dir(), "copied from the model"
    scores = json.loads((run / "task3/scores.json").read_text())
    assert scores["metrics"]["P"] is None and scores["metrics"]["C"] is not None
    aggregate_seed([run / "task3"], run / "summary.json", "go")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["forgetting"] is None and summary["final"]["P"] is None
    assert summary["matrix"] == [[None, None, summary["final"]["C"]]]
    assert summary["start"] == read_card(cards_model)["digest"]
    card = export(run, tmp_path / "longer")
    assert card["classes"] == NAMES and len(card["parts"]) == 3
    assert card["categories"][4]["id"] == NAMES.index(NAMES[4]) + 3
    assert len({entry["id"] for entry in card["categories"]}) == 5
    for task in (1, 2):
        path = f"task{task}/weights.safetensors"
        assert card["files"][path] == read_card(cards_model)["files"][path]


def renumbered(home, ids):
    """Give the categories of drawn data other ids."""
    for split in ("train", "test"):
        path = home / f"{split}.json"
        content = json.loads(path.read_text())
        new = {entry["id"]: ids[entry["name"]] for entry in content["categories"]}
        for entry in content["categories"]:
            entry["id"] = new[entry["id"]]
        for box in content["annotations"]:
            box["category_id"] = new[box["category_id"]]
        path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def longer(cards_model, tmp_path_factory):
    """A run that goes on from ``cards_model`` by a task each of a class with its id and without."""
    work = tmp_path_factory.mktemp("longer")
    draw_boxes(work / "boxes", [*NAMES[4:], "cyan square"], count=4, first=50)
    renumbered(work / "boxes", {NAMES[4]: 5, "cyan square": 7})
    return train(go_on(work, cards_model, [NAMES[4:], ["cyan square"]], data=BOXES))


def test_old_classes_keep_their_category_ids_and_a_new_one_gets_a_free_id(
    longer, cards_model, tmp_path
):
    """The data of the new tasks holds no old class, and an id of theirs for a new one."""
    old = read_card(cards_model)["categories"]
    assert [entry["id"] for entry in old] == [3, 4, 5, 6]
    card = export(longer, tmp_path / "longer")
    assert card["categories"][:4] == old
    # 5 is an old class's; 7 is then taken by the class of task 3, whatever task 4 brings
    assert [entry["id"] for entry in card["categories"][4:]] == [7, 8]
    assert open_place(longer, 3).card["categories"] == card["categories"][:5]
    assert open_place(longer, 2).card["categories"] == old
    assert open_place(longer).card["categories"] == card["categories"], "detect on the run"


def test_a_part_that_was_taken_over_is_a_model_too(longer, cards_model, tmp_path):
    """Of two parts the model's own text vectors, of the first their first rows."""
    for task in (1, 2):
        out = tmp_path / f"after{task}"
        card = export(longer, out, task=task)
        (path,) = (out / "text").iterdir()
        names, rows = read_text(path)
        assert names == card["classes"] and card["text"]["file"] == f"text/{path.name}"
        (whole,) = (cards_model / "text").iterdir()
        assert names == read_text(whole)[0][: len(names)]
        assert torch.equal(rows, read_text(whole)[1][: len(names)])
        assert torch.equal(read_background(path), read_background(whole))
        assert read_card(out)["digest"] == card["digest"]
    one = sorted((longer.parents[2] / "boxes/images").glob("*.png"))[:1]
    assert clclip.load_model(tmp_path / "after1")(one, threshold=0)[0].scores is not None


def test_a_start_of_an_older_version_goes_on(longer, tmp_path):
    """Its start.json has no categories: ids are then those of the labels, as they were."""
    work = shutil.copytree(longer.parents[2], tmp_path / "work")
    run = work / longer.relative_to(longer.parents[2])
    path = run / "start.json"
    content = json.loads(path.read_text())
    del content["categories"]
    path.write_text(json.dumps(content))
    labels = json.loads((run / "task4/test.json").read_text())["categories"]
    assert open_place(run).card["categories"] == labels
    # left behind by an experiment that once went on from another model
    path.write_text(json.dumps(json.loads((longer / "start.json").read_text()) | {"model": "x"}))
    assert open_place(run).card["categories"] == labels


def test_verify_tells_an_old_class_s_other_category_id(longer, cards_model, tmp_path):
    images = sorted((longer.parents[2] / "boxes/images").glob("*.png"))[:2]
    proof = verify(cards_model, longer, images)
    assert not any("category_id" in row for row in proof.classes.values())
    other = shutil.copytree(cards_model, tmp_path / "other")
    card = read_card(other)
    card["categories"][0]["id"] = 9
    write_card(other, card)
    proof = verify(cards_model, other, images)
    assert proof.classes[NAMES[0]]["category_id"] == [3, 9]
    assert "category_id" not in proof.classes[NAMES[1]]
    assert "category id 3 is now 9" in as_text(proof)


def test_old_texts_are_the_models_own_bit_for_bit(first, tmp_path):
    """As on a machine that embeds them with other last bits."""
    out = tmp_path / "text.safetensors"
    clip = first.parent / "clip"
    fetch_clip(None, clip)
    words = ["embed-text", "--clip", str(clip), "--names", json.dumps(NAMES[:3])]
    other = shutil.copytree(first, tmp_path / "other")
    path = next((other / "text").glob("*.safetensors"))
    names, rows = read_text(path)
    turned = rows.roll(1, dims=1)
    metadata = {"names": json.dumps(names), "clip": "x"}
    save_file({"text": turned, "background": read_background(path)}, path, metadata)
    write_card(other, read_card(other, check_files=False))
    assert main([*words, "--out", str(out)]) == 0
    plain = read_text(out)[1]
    assert main([*words, "--out", str(out), "--model", str(other)]) == 0
    found = read_text(out)[1]
    assert torch.equal(found[:2], turned) and torch.equal(found[2:], plain[2:])


def test_settings_are_those_of_the_model_unless_the_file_says_so(first, tmp_path):
    given = {"training": {"epochs": 3}, "data": BOXES}
    experiment, _ = read_experiment(go_on(tmp_path, first, GROUPS[1:], **given))
    assert experiment.kind == "detection" and experiment.method == "clclip"
    assert experiment.training["epochs"] == 3 and experiment.training["batch_size"] == 4
    assert experiment.switches["channels"] == 16 and experiment.seeds == [0]


def test_describe_tells_what_is_taken_over(first, tmp_path):
    draw_boxes(tmp_path / "boxes", NAMES)
    found = describe(str(go_on(tmp_path, first, GROUPS[1:], data=BOXES)))
    assert found["start"]["tasks"] == [GROUPS[0]] and found["tasks"][0]["task"] == 2
    assert f"taken over are tasks 1 to 1, 2 classes: {', '.join(GROUPS[0])}" in text(found)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"tasks": [[NAMES[0]]]}, f"class '{NAMES[0]}', which the model knows already"),
        ({"method": "fvit"}, "method 'fvit' for a model of method 'clclip'"),
        ({"kind": "classification"}, "kind 'classification' for a model"),
        ({"start": "gone"}, "no model in .*gone"),
        ({"start": 3}, "got 3.*start"),
        ({"training": {"image_size": 128}}, "size 128.*image_size.*the model's, 64"),
        ({"switches": {"scales": [1.0]}}, "taps .*scales"),
        ({"switches": {"channels": 32}}, "switch channels: 32.*switches.channels.*the model's, 16"),
        ({"switches": {"gate": "softmax"}}, "switch gate: softmax.*the model's, sigmoid"),
        ({"clip": {"model": "embedded_cls"}}, "the CLIP embedded-cls.*the model's, embedded-"),
        ({"per_task": {1: {"training": {"epochs": 2}}}}, "got task 1.*tasks 2..2"),
        ({"tasks": [["cow"]]}, "class 'cow' is not in the data"),
    ],
)
def test_what_does_not_go_on_is_one_line(first, tmp_path, keys, told):
    draw_boxes(tmp_path / "boxes", NAMES)
    given = {"data": BOXES, **keys}
    path = go_on(tmp_path, first, given.pop("tasks", GROUPS[1:]), **given)
    with pytest.raises(InputError, match=told):
        plan_of(path)


def test_another_adapter_is_refused_once_the_model_has_one(first, cards_model, tmp_path):
    """A first task has none, so the second may be either; and training alone may change."""
    draw_boxes(tmp_path / "boxes", NAMES)
    given = {"data": BOXES, "switches": {"adapter": "residual"}}
    plan_of(go_on(tmp_path, first, [NAMES[4:]], name="one", **given))
    path = go_on(tmp_path, cards_model, [NAMES[4:]], **given)
    with pytest.raises(InputError, match=r"switch adapter: residual.*the model's, copy"):
        plan_of(path)
    with pytest.raises(InputError, match="switch adapter: residual"):
        describe(str(path))
    given["switches"] = {"text_weight": 0.3, "orthogonality": "off", "negatives": 2}
    plan_of(go_on(tmp_path, cards_model, [NAMES[4:]], **given))


def test_a_classifier_of_another_form_is_refused(folders_run, tmp_path):
    export(folders_run, tmp_path / "first", task=1)
    shutil.copytree(folders_run.parents[2] / "folders", tmp_path / "folders")
    given = {"data": {"format": "folder", "root": "folders"}}
    plan_of(go_on(tmp_path, tmp_path / "first", GROUPS[1:], switches={"compare": "seen"}, **given))
    wide = go_on(tmp_path, tmp_path / "first", GROUPS[1:], switches={"adapter_width": 8}, **given)
    with pytest.raises(InputError, match=r"switch adapter_width: 8.*the model's, 16"):
        plan_of(wide)


def test_a_model_without_its_memory_is_refused(first, tmp_path):
    path = go_on(tmp_path, first, GROUPS[1:], data=BOXES)
    write_card(tmp_path / "model", read_card(tmp_path / "model") | {"memory": "left out"})
    with pytest.raises(InputError, match="--with-memory"):
        plan_of(path)


def test_another_model_than_the_planned_one_is_refused(first, tmp_path, capsys):
    out = tmp_path / "seed0/start.json"
    with pytest.raises(InputError, match="another model"):
        take_over(first, out, "0" * 64)
    assert not out.parent.exists()
    assert main(["take-over", "--model", str(first), "--out", str(out)]) == 0
    assert (out.parent / "task1/weights.safetensors").is_file()
    task = json.loads((out.parent / "task1/task.json").read_text())
    file = out.parent / "task2/task.json"
    file.parent.mkdir()
    file.write_text(json.dumps(task | {"task": 2, "groups": GROUPS, "start": "0" * 64}))
    with pytest.raises(InputError, match="the parts of another model"):
        check_taken_over(file)


def test_the_job_of_the_workflow_waits_for_the_model(first, tmp_path):
    """Tasks are numbered on, and no job makes those of the model."""
    draw_boxes(tmp_path / "boxes", NAMES)
    _, experiment = plan_of(go_on(tmp_path, first, [[NAMES[2]], [NAMES[3]]], data=BOXES))
    assert list(experiment.numbers) == [2, 3] and set(experiment.tasks) == {(0, 2), (0, 3)}


@pytest.mark.slow
def test_the_workflow_goes_on_from_a_model(root, first, tmp_path):
    """Two new tasks, through every rule to the report."""
    draw_boxes(tmp_path / "boxes", NAMES)
    go_on(tmp_path, first, [[NAMES[2]], [NAMES[3]]], data=BOXES)
    command = ["snakemake", "-s", str(root / "Snakefile"), "--cores", "2"]
    done = subprocess.run(
        [*command, "--config", "experiments=go.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "results/go/summary.json").read_text())
    assert [row["task"] for row in summary["tasks"]] == [2, 3]
    assert (tmp_path / "results/report.html").is_file()
