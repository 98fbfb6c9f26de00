"""The plan: slices of tasks, canonical JSON, content-addressed stores."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clclip.clip.architecture import blocks, dense_mode, taps
from clclip.config.experiment import Experiment
from clclip.core.digest import canonical
from clclip.core.errors import InputError
from clclip.core.task import (
    check_task,
    current_classes,
    features_dir,
    previous_classes,
    read_task,
    seen_classes,
    task_folders,
    text_names,
)
from clclip.workflow.plan import RunPlan, add_experiment, plan_run, resolve_training
from clclip.workflow.task_store import training_slice

CLASSES = ["red circle", "green circle", "blue circle", "yellow circle", "red star"]


def plan(tmp_path, seeds=(0,), **changes):
    values = {"kind": "detection", "method": "clclip", "tasks": [[c] for c in CLASSES[:3]]}
    experiment = Experiment.model_validate(values | {"name": "mine"} | changes)
    run = RunPlan()
    return add_experiment(run, experiment, list(seeds), tmp_path, "mine.yaml"), run


def test_slice_of_a_task_holds_nothing_of_later_tasks_or_of_names(tmp_path):
    short, _ = plan(tmp_path, name="short", tasks=[[c] for c in CLASSES[:2]])
    long, _ = plan(tmp_path, name="long", tasks=[[c] for c in CLASSES])
    for number in (1, 2):
        assert short.tasks[0, number].json == long.tasks[0, number].json
    text = long.tasks[0, 2].json
    assert "blue circle" not in text and "long" not in text
    assert short.tasks[0, 1].json != short.tasks[0, 2].json


def test_columns_follow_the_groups(tmp_path):
    planned, _ = plan(tmp_path, tasks=[CLASSES[:2], CLASSES[2:3], CLASSES[3:]])
    task = planned.tasks[0, 3].payload
    assert previous_classes(task) == CLASSES[:3]
    assert current_classes(task) == CLASSES[3:]
    assert seen_classes(task) == CLASSES


def test_joint_is_one_task_over_all_groups(tmp_path):
    planned, _ = plan(tmp_path, method="joint")
    assert planned.length == 1
    task = planned.tasks[0, 1].payload
    assert task["groups"] == [[c] for c in CLASSES[:3]]
    assert previous_classes(task) == [] and current_classes(task) == CLASSES[:3]


def test_per_task_settings_reach_their_task_alone(tmp_path):
    changed = {2: {"training": {"lr": 0.5}, "switches": {"negatives": 3}}}
    planned, _ = plan(tmp_path, per_task=changed, training={"lr": 0.1})
    rates = [planned.tasks[0, t].payload["training"]["lr"] for t in (1, 2, 3)]
    counts = [planned.tasks[0, t].payload["switches"]["negatives"] for t in (1, 2, 3)]
    assert rates == [0.1, 0.5, 0.1] and counts == [1, 3, 1]


def test_text_names_only_where_they_differ_and_only_of_seen_classes(tmp_path):
    text = {
        "red circle": "scarlet disc",
        "blue circle": "azure disc",
        "green circle": "green circle",
    }
    planned, run = plan(tmp_path, text=text)
    assert planned.tasks[0, 1].payload["text"] == {"red circle": "scarlet disc"}
    assert text_names(planned.tasks[0, 3].payload) == ["scarlet disc", "green circle", "azure disc"]
    names = run.texts[planned.tasks[0, 3].text]["names"]
    assert names == text_names(planned.tasks[0, 3].payload)


def test_kinds_have_their_own_training_defaults():
    detection = resolve_training("detection", {}, "x")
    classification = resolve_training("classification", {}, "x")
    assert (detection["epochs"], detection["batch_size"], detection["lr"]) == (8, 8, 0.001)
    assert (classification["epochs"], classification["batch_size"]) == (10, 64)
    assert resolve_training("classification", {"epochs": 2}, "x")["epochs"] == 2


def test_stores_are_shared_and_named_by_content(tmp_path):
    planned, run = plan(tmp_path, seeds=(0, 1))
    assert len(run.data) == len(run.clips) == len(run.features) == 1
    assert len(run.texts) == 3  # one per task: seen classes grow
    other, more = plan(tmp_path, training={"image_size": 256})
    assert set(more.features) != set(run.features) and set(more.data) == set(run.data)
    task = planned.tasks[0, 1].payload
    assert task["features"]["size"] == 128 and other.tasks[0, 1].payload["features"]["size"] == 256
    assert task["data"] == {"format": "shapes", "id": "shapes20-v1", "image_rule": "overlap"}


def test_fractions_of_tasks_so_far_are_in_a_task(tmp_path):
    data = {"format": "shapes", "image_rule": "disjoint", "fractions": [0.5, 0.25, 0.25]}
    planned, _ = plan(tmp_path, data=data)
    told = [planned.tasks[0, number].payload["data"]["fractions"] for number in (1, 2, 3)]
    assert told == [[0.5], [0.5, 0.25], [0.5, 0.25, 0.25]]
    joint, _ = plan(tmp_path, data=data, method="joint")
    assert joint.tasks[0, 1].payload["data"]["fractions"] == data["fractions"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": [0.5, 0.5]}, "2 fractions, in mine.yaml: data.fractions, expected 3"),
        ({"fractions": [0.5, 0.6, 0.1]}, "add up to at most 1"),
        ({"fractions": [0.5, 0.0, 0.1]}, "above 0"),
        ({"fractions": []}, "above 0"),
        ({"image_rule": "overlap", "fractions": [0.3, 0.3, 0.3]}, "image_rule: disjoint"),
    ],
)
def test_wrong_fractions(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        plan(tmp_path, data={"format": "shapes", "image_rule": "disjoint"} | changes)


def test_another_draw_and_other_knobs_of_a_world_are_other_data(tmp_path):
    clutter = {"format": "shapes", "world": "clutter20"}
    made = {}
    for changes in ({}, {"draw": 2}, {"difficulty": {"theme": 0}}, {"difficulty": {"theme": 70}}):
        planned, run = plan(tmp_path, data=clutter | changes)
        [(name, spec)] = run.data.items()
        made[name] = spec
        assert planned.tasks[0, 1].payload["data"]["id"] == name
        assert planned.dataset == ("clutter20" if not changes else name)
    assert (
        len(made) == 3 and "clutter20-v1" in made
    )  # a knob set to the world's own changes nothing
    assert made["clutter20-v1"]["world"] == "clutter20"
    assert [s["difficulty"] for s in made.values() if "theme" in s.get("difficulty", {})] == [
        {"theme": 70},
        {"theme": 0},
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"world": "shapes20", "difficulty": {"theme": 1}},
            "'shapes20' has no difficulty.*clutter20",
        ),
        ({"draw": 0}, "greater than or equal to 1"),
        ({"difficulty": {"theme": 101}}, "less than or equal to 100"),
        ({"difficulty": {"theme": True}}, "a number, not true or false"),
        ({"difficulty": {"size": [30, 20]}}, r"the range \[30, 20\]"),
        ({"difficulty": {"size": [0, 20]}}, "of 1 to 100"),
        ({"difficulty": {"themes": 3}}, "themes"),
        ({"image_rule": "place"}, "world 'clutter20' has no places.*clutter20_places"),
        ({"world": "clutter20_places", "image_rule": "place"}, "place with 3 tasks, but 2 places"),
        (
            {"format": "coco", "root": "x", "train": "a", "test": "b", "draw": 1},
            "'draw' has no mean",
        ),
    ],
)
def test_knobs_that_cannot_be(tmp_path, changes, message):
    with pytest.raises((ValueError, InputError), match=message):
        plan(tmp_path, data={"format": "shapes", "world": "clutter20"} | changes)


def test_a_place_per_task_and_joint_on_all(tmp_path):
    data = {"format": "shapes", "world": "clutter20_places", "image_rule": "place"}
    groups = {"tasks": [CLASSES[:2], CLASSES[2:]]}
    planned, _ = plan(tmp_path, data=data, **groups)
    assert planned.tasks[0, 2].payload["data"]["image_rule"] == "place"
    more = data | {"difficulty": {"places": 3}}
    assert plan(tmp_path, data=more)[0].length == 3
    assert plan(tmp_path, data=data, method="joint")[0].length == 1


def test_jitter_has_no_feature_store(tmp_path):
    planned, run = plan(tmp_path, training={"augment": "lsj"})
    assert not run.features and planned.tasks[0, 1].features is None
    assert features_dir(planned.tasks[0, 1].payload, "train", tmp_path) is None


def test_default_run_and_smoke_run_plan(root):
    import yaml

    for name in ("config", "smoke", "embedded_seeds"):
        values = yaml.safe_load((root / "config" / f"{name}.yaml").read_text())
        run = plan_run(values)
        assert list(run.experiments) == values["experiments"]
        for experiment in run.experiments.values():
            for task in experiment.tasks.values():
                check_task(json.loads(task.json), "plan")


def test_seeds_of_the_run_replace_those_of_the_file(tmp_path):
    run = plan_run({"experiments": "shapes_10_10_fvit", "seeds": "4,5"})
    assert run.experiments["shapes_10_10_fvit"].seeds == (4, 5)
    assert run.task("shapes_10_10_fvit", "5", "2").folder.endswith("seed5/task2")


scalars = st.none() | st.booleans() | st.integers() | st.text(string.printable, max_size=5)
scalars |= st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def shuffled(value, order):
    """Return ``value`` with the keys of all mappings in another order."""
    if isinstance(value, dict):
        items = [(k, shuffled(v, order)) for k, v in value.items()]
        order.shuffle(items)
        return dict(items)
    return [shuffled(v, order) for v in value] if isinstance(value, list) else value


@settings(max_examples=60)
@given(values, st.randoms(use_true_random=False))
def test_canonical_json_is_one_text_per_value(value, order):
    text = canonical(value)
    assert canonical(shuffled(value, order)) == text
    assert json.loads(text) == value and canonical(json.loads(text)) == text
    assert "\n" not in text and text.isascii()


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError):
        canonical(float("nan"))


@settings(max_examples=30)
@given(st.floats(1e-6, 1, allow_subnormal=False))
def test_equal_numbers_written_differently_are_one_plan(rate):
    texts = {
        canonical(resolve_training("detection", {"lr": given}, "x"))
        for given in (rate, repr(rate), f"{rate:.17e}")
    }
    assert len(texts) == 1


names = st.text(max_size=6) | st.sampled_from(CLASSES)


@settings(max_examples=60)
@given(st.lists(st.lists(names, max_size=3), max_size=4))
def test_any_groups_give_a_plan_or_one_clear_error(tmp_path_factory, groups):
    from clclip.core.models import parse

    raw = {"name": "any", "kind": "detection", "method": "fvit", "tasks": groups}
    try:
        experiment = parse(Experiment, raw, "any.yaml")
        planned = add_experiment(RunPlan(), experiment, [0], tmp_path_factory.getbasetemp(), "any")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert [task.payload["groups"][-1] for task in planned.tasks.values()] == groups


def test_task_files_are_checked(tmp_path):
    path = tmp_path / "task1" / "task.json"
    path.parent.mkdir()
    good = plan(tmp_path)[0].tasks[0, 2].payload
    path.write_text(canonical(good))
    assert read_task(path) == good
    assert [p.name for p in task_folders(path)] == ["task1", "task2"]
    for change, message in [
        ({"groups": []}, "non-empty lists"),
        ({"groups": [[]]}, "non-empty lists"),
        ({"task": 0}, "a number from 1"),
        ({"task": "one"}, "a number from 1"),
    ]:
        path.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=message):
            read_task(path)
    path.write_text(json.dumps({k: v for k, v in good.items() if k != "seed"}))
    with pytest.raises(InputError, match="missing key 'seed'"):
        read_task(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        read_task(path)


def test_training_slice_leaves_out_the_evaluation(tmp_path):
    task = plan(tmp_path)[0].tasks[0, 1].payload
    other = plan(tmp_path, evaluation={"ap": "coco"})[0].tasks[0, 1].payload
    assert canonical(task) != canonical(other)
    assert training_slice(task) == training_slice(other)


def test_fvit_variants_share_their_first_task_and_no_other(tmp_path):
    slices = {
        method: [
            training_slice(plan(tmp_path, method=method)[0].tasks[0, t].payload) for t in (1, 2)
        ]
        for method in ("fvit", "fvit_current", "clclip")
    }
    assert slices["fvit"][0] == slices["fvit_current"][0] != slices["clclip"][0]
    assert slices["fvit"][1] != slices["fvit_current"][1]


def test_what_protects_earlier_tasks_is_no_matter_of_the_first(tmp_path):
    def both(**switches):
        tasks = plan(tmp_path, method="clclip", switches=switches)[0].tasks
        return [training_slice(tasks[0, t].payload) for t in (1, 2)]

    first, second = both()
    guarded = {"shared": "free", "relegation_guard": "ignore"}
    for switches in ({"shared": "drift"}, guarded, {"shared": "drift", "drift_weight": 1.0}):
        assert both(**switches)[0] == first
        assert both(**switches)[1] != second
    assert both(gate_floor=0.1)[0] != first


@pytest.mark.parametrize(
    ("model", "depth", "mode"),
    [
        ("embedded", 4, "tokens"),
        ("ViT-B-16", 12, "catseg"),
        ("ViT-L-14", 24, "catseg"),
        ("EVA02-B-16", 12, "maskclip"),
        ("ViT-B-16-SigLIP2", 12, "attnpool"),
    ],
)
def test_towers_have_their_depth_and_dense_mode(model, depth, mode):
    clip = {"model": model}
    assert blocks(clip) == depth and dense_mode(clip) == mode
    for count in (1, 3, 4):
        found = taps(clip, count)
        assert len(found) == count and found == sorted(set(found)) and found[-1] == depth - 1
    assert taps({"model": "ViT-B-16"}, 4) == [3, 5, 7, 11]
