"""What the plan says of the features and texts of classification tasks that train no tower."""

from __future__ import annotations

import pytest

from clclip.config.experiment import Experiment
from clclip.core.errors import InputError
from clclip.workflow.plan import RunPlan, add_experiment

CLASSES = ["red circle", "green circle", "blue circle"]


def planned(tmp_path, method, text=None, **switches):
    """Return the tasks and the run's plan of a stream of three classes."""
    values = {
        "name": "mine",
        "kind": "classification",
        "method": method,
        "tasks": [[name] for name in CLASSES],
        "switches": switches,
        "text": text or {},
    }
    run = RunPlan()
    plan = add_experiment(run, Experiment.model_validate(values), [0], tmp_path, "mine.yaml")
    return [plan.tasks[0, number] for number in (1, 2, 3)], run


def test_zero_shot_reads_the_store_of_test_images_alone(tmp_path):
    tasks, run = planned(tmp_path, "zeroshot")
    assert all(task.store("train") == task.store("test") for task in tasks)
    others, _ = planned(tmp_path, "ncm")
    assert others[0].store("test") == tasks[0].store("test") != others[0].store("train")
    assert not run.texts and all(task.text is None for task in tasks)
    trained, _ = planned(tmp_path, "hpeft")
    assert trained[0].store("train") is None


def test_texts_that_no_store_holds_are_planned_for_the_task_that_brings_them(tmp_path):
    own = {"green circle": "a lime", "blue circle": "blue_circle"}
    for method, reads in (("zeroshot", True), ("gda_text", True), ("rapf", True), ("ncm", False)):
        tasks, run = planned(tmp_path, method, own)
        assert [task.text is not None for task in tasks] == [False, reads, False], method
        if reads:
            (described,) = run.texts.values()
            assert described["names"] == ["a lime"] and "{}" in described["template"]
    tasks, run = planned(tmp_path, "zeroshot", template="art of a {}.")
    assert len(run.texts) == 3 and all(task.text in run.texts for task in tasks)
    assert {text["template"] for text in run.texts.values()} == {"art of a {}."}


def test_vis_reads_the_published_blocks_in_proportion_or_those_it_is_told(tmp_path):
    tasks, run = planned(tmp_path, "vis")
    (store,) = run.features.values()
    assert store["taps"] == [2, 3, 4] == tasks[0].payload["features"]["taps"]  # of four blocks
    _, run = planned(tmp_path, "vis", blocks=[4, 1])
    assert [store["taps"] for store in run.features.values()] == [[1, 4]]
    expected = r"in mine\.yaml: switches\.blocks, expected numbers 1 to 4"
    for wrong in ([5], [0, 1], []):
        with pytest.raises(InputError, match=expected):
            planned(tmp_path, "vis", blocks=wrong)
