"""Images held out of training: which, that no task trains on them, and that 0 changes nothing."""

import json

import pytest

from clclip.config.experiment import Experiment
from clclip.core.errors import InputError, WrongValue
from clclip.core.models import parse
from clclip.data.holdout import divided, is_held_out
from clclip.data.prepare import prepare
from clclip.data.split import held_out, split_task
from clclip.evaluation.calibrated.objective import Objective
from clclip.workflow.plan import RunPlan, add_experiment

CLASSES = ["red circle", "green circle", "blue circle", "yellow circle", "red star"]
WORLD = {"format": "shapes", "world": "shapes20_tiny"}


def planned(tmp_path, **changes):
    values = {"kind": "detection", "method": "clclip", "tasks": [CLASSES[:3], CLASSES[3:]]}
    values |= {"name": "mine", "data": WORLD} | changes
    experiment = parse(Experiment, values, "mine.yaml")
    return add_experiment(RunPlan(), experiment, [0], tmp_path, "mine.yaml")


def test_nothing_held_out_is_no_key_and_the_same_task_byte_for_byte(tmp_path):
    plain = planned(tmp_path)
    for changes in ({"training": {"holdout": 0}}, {"evaluation": {}}):
        other = planned(tmp_path, **changes)
        assert [t.json for t in other.tasks.values()] == [t.json for t in plain.tasks.values()]
    assert "holdout" not in plain.tasks[0, 1].payload["training"]
    assert "threshold" not in plain.tasks[0, 1].payload["evaluation"]
    held = planned(tmp_path, training={"holdout": 0.25}, evaluation={"threshold": "precision:0.8"})
    assert held.tasks[0, 1].payload["training"]["holdout"] == 0.25
    assert held.tasks[0, 1].payload["evaluation"]["threshold"] == "precision:0.8"


def test_bad_settings_are_told(tmp_path):
    for share in (-0.1, 0.95, "x"):
        with pytest.raises(InputError, match="holdout"):
            planned(tmp_path, training={"holdout": share})
    with pytest.raises(InputError, match=r"evaluation\.threshold.*precision:0\.9"):
        planned(tmp_path, evaluation={"threshold": "f2"})
    seca = {"kind": "classification", "method": "seca"}
    with pytest.raises(InputError, match=r"holdout 0\.2 for classification"):
        planned(tmp_path, **seca, data={"format": "shapes"}, training={"holdout": 0.2})
    with pytest.raises(WrongValue):
        Objective.read("precision:2")


def test_no_task_trains_on_an_image_that_is_held_out_and_none_is_lost(tmp_path):
    share = 0.3
    resources = tmp_path / "resources"
    everything, held_anywhere, trained_anywhere = {}, set(), set()
    for holdout in (0, share):
        plan = planned(tmp_path, training={"holdout": holdout})
        for (_, number), task in plan.tasks.items():
            home = resources / "data" / task.payload["data"]["id"]
            if not home.exists():
                prepare(WORLD, home)
            file = tmp_path / f"{holdout}" / f"task{number}" / "task.json"
            file.parent.mkdir(parents=True)
            file.write_text(task.json)
            split_task(file, resources)
            train = json.loads((file.parent / "train.json").read_text())
            ids = {image["id"] for image in train["images"]}
            if not holdout:
                everything[number] = ids
                continue
            held = held_out(file, resources)
            aside = {image["id"] for image in held["images"]}
            assert ids | aside == everything[number] and not ids & aside
            assert all(is_held_out(number, share) for number in aside)
            assert {box["image_id"] for box in train["annotations"]} <= ids
            assert {box["image_id"] for box in held["annotations"]} <= aside
            assert held["categories"] == train["categories"]
            assert 0.1 * len(everything[number]) < len(aside) < 0.5 * len(everything[number])
            held_anywhere |= aside
            trained_anywhere |= ids
    assert not held_anywhere & trained_anywhere


def test_a_share_must_leave_images_on_both_sides():
    images = [{"id": 1}]
    with pytest.raises(InputError, match=r"holdout 0\.5 takes (0|1) of 1 images"):
        divided({"images": images, "annotations": [], "categories": []}, 0.5, "here")
