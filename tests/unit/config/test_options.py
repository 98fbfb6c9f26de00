"""Switches: each method has its own, and one that means nothing is refused or left out."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from pydantic import Field

from clclip.cli.main import main
from clclip.config import resolve
from clclip.config.load import read_experiment
from clclip.config.resolve import check_settings, resolve_options
from clclip.core.digest import canonical
from clclip.core.errors import InputError
from clclip.core.options import Positive
from clclip.detection.options.fvit import ReplayOptions
from clclip.model.kinds import KINDS
from clclip.workflow.plan import RunPlan, add_experiment, plan_run

METHODS = {name: (kind, m) for kind in KINDS.values() for name, m in kind.methods.items()}
CLASSES = [["red circle"], ["green circle"]]


def write(folder, name="mine.yaml", **values):
    path = folder / name
    path.write_text(yaml.safe_dump(values))
    return path


def tasks(path):
    """Return the task files of an experiment file's first seed, in order."""
    experiment, folder = read_experiment(path)
    planned = add_experiment(RunPlan(), experiment, [0], folder, path)
    return [planned.tasks[key].payload for key in sorted(planned.tasks)]


REFUSED = {
    "memory of replay": ("shapes_10_10_fvit", None, {"memory": 999}, "fvit_replay"),
    "objects of inversion": ("shapes_10_10_fvit", None, {"invert_objects": 7}, "fvit_ior"),
    "a gate for F-ViT": ("shapes_10_10_fvit", None, {"gate": "minmax"}, "clclip, clclip_paper"),
    "memory for CL-CLIP": ("shapes_10_10_clclip", None, {"memory": 999}, "fvit_replay"),
    "pseudo-labels": ("shapes_10_10_clclip", None, {"pseudo_threshold": 0.2}, "fvit_pseudo"),
    "columns of MMA": ("shapes_10_10_fvit_mma", None, {"columns": "current"}, "fvit_pseudo"),
    "columns of IOR": ("shapes_10_10_fvit_ior", None, {"columns": "current"}, "fvit, "),
    "columns of joint": ("shapes_10_10_joint", None, {"columns": "current"}, "fvit, fvit_current"),
    "a guard for joint": ("shapes_10_10_joint", None, {"relegation_guard": "ignore"}, "clclip"),
    "a switch of the other kind": ("shapes_cil_seca", None, {"memory": 5}, "fvit_replay"),
    "drift of a frozen path": (
        "shapes_10_10_clclip",
        None,
        {"shared": "frozen", "drift_weight": 99},
        "expected shared: drift",
    ),
    "boxes without experts": (
        "shapes_10_10_clclip",
        None,
        {"experts": False, "expert_box": True},
        "nothing with experts: false, in .*, expected experts: true",
    ),
    "routes without experts": (
        "shapes_10_10_clclip",
        None,
        {"experts": False, "route_recall": 0.9},
        "expected experts: true",
    ),
    "recall of no route": (
        "shapes_10_10_clclip",
        None,
        {"route": "all", "route_recall": 0.9},
        "expected route: share or prior",
    ),
    "a floor without a gate": (
        "shapes_10_10_clclip",
        None,
        {"gate": "off", "gate_floor": 0.1},
        "gate: off, in .*, expected gate: sigmoid or minmax or softmax",
    ),
    "a guard of protected paths": (
        "shapes_10_10_clclip",
        None,
        {"relegation_guard": "ignore"},
        "shared: adapters, in .*, expected shared: drift or free",
    ),
    "a threshold without a guard": (
        "shapes_10_10_fvit",
        None,
        {"guard_threshold": 0.4},
        "expected relegation_guard: ignore or pseudo",
    ),
    "adapters of a frozen tower": (
        "shapes_cil_hpeft",
        None,
        {"visual": "frozen", "adapter_width": 64},
        "visual: frozen, in .*, expected visual: adapter",
    ),
    "rank without replay": (
        "shapes_cil_seca",
        None,
        {"rank": 4, "covariance": "lowrank"},
        "expected replay: gaussian",
    ),
    "comparisons where nothing learns": (
        "shapes_cil_hpeft",
        None,
        {"visual": "frozen", "prompt": "template", "compare": "seen"},
        "visual: adapter or tower or prompt: learned or classifier: sevpr",
    ),
    "distillation where all classes are new": (
        "shapes_cil_joint",
        None,
        {"distillation": "clip"},
        "no earlier task, in .*, expected one of .*seca",
    ),
    "a method's own file": ("shapes_10_10_fvit", "fvit_mma", {"memory": 3}, "fvit_replay"),
    "a scale that no resampler has": (
        "shapes_10_10_clclip",
        None,
        {"scales": [3]},
        "scale 3, in .*switches: scales.0, expected one of 4, 2, 1, 0.5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_switch_without_meaning_is_refused_where_a_file_sets_it(case, tmp_path):
    base, method, switches, words = REFUSED[case]
    values = {"base": base, "switches": switches} | ({"method": method} if method else {})
    with pytest.raises(InputError) as told:
        tasks(write(tmp_path, **values))
    message = str(told.value)
    assert "\n" not in message and "mine.yaml" in message and re.search(words, message), message


IDLE = {
    "a metric of boxes": (
        "smoke_seca",
        {"evaluation": {"ap": "coco"}},
        "evaluation.ap, .*detection",
    ),
    "images of boxes": ("smoke_ridge", {"evaluation": {"images": "full"}}, "evaluation.images"),
    "a threshold of boxes": ("smoke_seca", {"evaluation": {"threshold": "f1"}}, "threshold"),
    "bad boxes": ("smoke_seca", {"data": {"on_bad_box": "fail"}}, "data.on_bad_box, .*detection"),
    "milestones of a cosine": (
        "smoke_clclip",
        {"training": {"milestones": [0.5]}},
        "nothing with schedule: cosine, in .*training.milestones, expected schedule: multistep",
    ),
    "milestones of another task's schedule": (
        "smoke_clclip",
        {
            "per_task": {
                1: {"training": {"schedule": "multistep"}},
                2: {"training": {"milestones": [0.5]}},
            }
        },
        "per_task.2: training.milestones",
    ),
    "drift of a first task": (
        "smoke_clclip_paper",
        {"per_task": {1: {"switches": {"drift_weight": 1.0}}}},
        "nothing in task 1, .*per_task.1: switches.drift_weight, expected a later task",
    ),
    "distillation of a first task": (
        "smoke_fvit_mma",
        {"per_task": {1: {"switches": {"distil_weight": 1.0}}}},
        "nothing in task 1",
    ),
}


@pytest.mark.parametrize("case", IDLE)
def test_a_key_without_meaning_is_refused_where_a_file_sets_it(case, tmp_path):
    base, values, words = IDLE[case]
    with pytest.raises(InputError) as told:
        tasks(write(tmp_path, base=base, **values))
    message = str(told.value)
    assert "\n" not in message and "mine.yaml" in message and re.search(words, message), message


def test_a_key_that_means_something_in_one_task_stays(tmp_path):
    steps = {1: {"training": {"schedule": "multistep"}}}
    one, two = tasks(
        write(tmp_path, base="smoke_fvit", training={"milestones": [0.5]}, per_task=steps)
    )
    assert one["training"]["milestones"] == two["training"]["milestones"] == [0.5]
    drift = {"drift_weight": 1.0}
    tasks(write(tmp_path, base="smoke_clclip_paper", per_task={2: {"switches": drift}}))
    tasks(write(tmp_path, base="smoke_clclip_paper", switches=drift))


def test_an_inherited_key_that_lost_its_meaning_is_left_out(tmp_path, capsys):
    """Of the plan, and of the file that `describe --yaml` writes."""
    base = {"kind": "classification", "method": "seca", "stream": "smoke"}
    base |= {"training": {"schedule": "multistep", "milestones": [0.5]}}
    write(tmp_path, "base.yaml", **base)
    mine = write(tmp_path, base="base.yaml", training={"schedule": "cosine"})
    assert main(["describe", str(mine), "--yaml"]) == 0
    text = capsys.readouterr().out
    assert "milestones" not in text and "schedule: cosine" in text
    (tmp_path / "saved.yaml").write_text(text)
    assert len(tasks(mine)) == len(tasks(tmp_path / "saved.yaml"))
    assert main(["describe", "smoke_ridge", "--yaml"]) == 0
    (tmp_path / "saved.yaml").write_text(capsys.readouterr().out)
    assert tasks(tmp_path / "saved.yaml")


UNTRAINED = [name for name, (_, method) in METHODS.items() if method.closed_form]


@pytest.mark.parametrize("method", UNTRAINED)
def test_training_of_a_method_that_trains_nothing_is_refused_where_a_file_sets_it(method, tmp_path):
    base = f"shapes_cil_{method}"
    tasks(write(tmp_path, base=base, training={"image_size": 32}))
    for values in (
        {"training": {"lr": 0.1}},
        {"training": {"image_size": 32, "epochs": 3}},
        {"per_task": {2: {"training": {"batch_size": 4}}}},
    ):
        with pytest.raises(InputError) as told:
            tasks(write(tmp_path, base=base, **values))
        section = values.get("training") or values["per_task"][2]["training"]
        key, place = list(section)[-1], "per_task.2: " if "per_task" in values else ""
        assert str(told.value) == (
            f"{key} means nothing for method {method}, which trains no tower, in "
            f"{tmp_path / 'mine.yaml'}: {place}training.{key}, expected image_size alone, or a "
            "method that trains one"
        )


@pytest.mark.parametrize("key", ["augment", "precision", "cache_features"])
@pytest.mark.parametrize("section", [None, 2])
def test_training_of_detectors_is_refused_for_classifiers(tmp_path, key, section):
    base = "shapes_cil_hpeft"
    usual = {"augment": "none", "precision": "fp32", "cache_features": True}
    other = {"augment": "lsj", "precision": "bf16", "cache_features": False}
    for training, right in ((usual, True), (other, False)):
        own = {"training": {key: training[key]}}
        path = write(tmp_path, base=base, **(own if section is None else {"per_task": {2: own}}))
        if right:
            assert tasks(path)
            continue
        with pytest.raises(InputError, match=f"{key} means nothing for classification, in .*mine"):
            tasks(path)


def test_a_base_may_say_how_the_methods_of_other_files_are_trained(tmp_path):
    common = {"base": "shapes_cil_seca", "training": {"lr": 0.1, "epochs": 3}}
    write(tmp_path, "common.yaml", **common)
    own = {"method": "seca_cov", "per_task": {1: {"training": {}}}}
    assert tasks(write(tmp_path, base="common.yaml", **own))
    with pytest.raises(InputError, match="means nothing for method seca_cov"):
        tasks(write(tmp_path, "all.yaml", **common | {"method": "seca_cov"}))


def test_what_a_base_says_of_other_methods_is_left_out(tmp_path):
    """A base may speak of every method, and a variant may take a switch its meaning."""
    switches = {"memory": 7, "gate": "minmax", "expert_width": 64, "channels": 16}
    common = write(
        tmp_path,
        "common.yaml",
        **{"kind": "detection", "method": "clclip", "tasks": CLASSES, "switches": switches},
    )
    for method, own in (("fvit", set()), ("fvit_replay", {"memory"})):
        path = write(tmp_path, base=str(common), method=method)
        for task in tasks(path):
            assert set(task["switches"]) & set(switches) == {"channels"} | own
    path = write(
        tmp_path, base=str(write(tmp_path, "c.yaml", base=str(common), method="fvit_replay"))
    )
    assert tasks(path)[0]["switches"]["memory"] == 7
    off = write(tmp_path, "off.yaml", base="shapes_10_10_clclip", switches={"gate_floor": 0.1})
    kept = tasks(off)[0]["switches"]
    dropped = tasks(write(tmp_path, base=str(off), switches={"gate": "off"}))[0]["switches"]
    assert kept["gate_floor"] == 0.1 and set(kept) - set(dropped) == {"gate_floor", "refiner"}


def test_a_misspelt_switch_of_a_base_is_not_left_out_in_silence(tmp_path):
    base = write(
        tmp_path,
        "b.yaml",
        **{"kind": "detection", "method": "clclip", "tasks": CLASSES, "switches": {"memmory": 3}},
    )
    with pytest.raises(InputError, match="unknown key 'memmory'"):
        tasks(write(tmp_path, base=str(base), method="fvit_replay"))


def test_a_switch_may_mean_something_in_one_task_only(tmp_path):
    values = {"base": "shapes_10_10_clclip", "switches": {"drift_weight": 9.0}}
    path = write(tmp_path, **values, per_task={2: {"switches": {"shared": "drift"}}})
    first, second = (task["switches"] for task in tasks(path))
    assert "drift_weight" not in first and second["drift_weight"] == 9.0
    path = write(tmp_path, **values, per_task={2: {"switches": {"shared": "free"}}})
    with pytest.raises(InputError, match=r"drift_weight.*expected shared: drift"):
        tasks(path)
    wrong = {2: {"switches": {"shared": "free", "drift": "both"}}}
    with pytest.raises(InputError, match=r"per_task.2: switches.drift,.*expected shared: drift"):
        tasks(write(tmp_path, base="shapes_10_10_clclip", per_task=wrong))


def test_a_new_switch_of_one_method_is_in_its_own_task_files_alone(monkeypatch):
    def told():
        return {
            name: canonical(resolve_options(kind.name, name, {}, "x"))
            for name, (kind, _) in METHODS.items()
        }

    class Longer(ReplayOptions):
        lwf_weight: float = Field(1.0, ge=0)

    before = told()
    replay = KINDS["detection"].methods["fvit_replay"]
    object.__setattr__(replay, "options", Longer)
    try:
        after = told()
    finally:
        object.__setattr__(replay, "options", ReplayOptions)
    assert {name for name in before if before[name] != after[name]} == {"fvit_replay"}
    assert "lwf_weight" in after["fvit_replay"]


@pytest.mark.parametrize("name", METHODS)
def test_tables_of_what_options_need_name_options_and_their_values(name):
    """A need names an option of the class, and a default or a value that the option accepts."""
    cls = METHODS[name][1].options
    assert set(cls.only_with) | cls.later | cls.across_tasks <= set(cls.model_fields)
    for needs in cls.only_with.values():
        for other, values in needs.items():
            for value in (0.5,) if isinstance(values, Positive) else values:
                assert getattr(cls(**{other: value}), other) == value


def test_the_published_method_is_a_setting_of_the_method(tmp_path):
    def file(name):
        return tasks(write(tmp_path, f"{name}.yaml", base="shapes_10_10_clclip", method=name))

    ours, paper = file("clclip"), file("clclip_paper")
    published = {"text_score": False, "shared": "drift", "drift": "feature"}
    by_hand = write(tmp_path, "hand.yaml", base="shapes_10_10_clclip", switches=published)
    assert paper == tasks(by_hand) != ours
    assert {task["method"] for task in paper} == {"clclip"}


def test_joint_says_what_it_trains_and_others_need_not():
    plan = plan_run(
        {"experiments": ["shapes_10_10_joint", "shapes_10_10_fvit", "shapes_cil_joint"]}
    )
    told = {
        name: [task.payload.get("trains") for task in experiment.tasks.values()]
        for name, experiment in plan.experiments.items()
    }
    assert told["shapes_10_10_joint"] == told["shapes_cil_joint"] == ["all"]
    assert told["shapes_10_10_fvit"] == [None, None]


def test_a_task_file_needs_the_options_that_count_and_no_others():
    plan = plan_run({"experiments": ["shapes_10_10_clclip"]})
    task = plan.task("shapes_10_10_clclip", 0, 1).payload
    check_settings(task, "task.json")
    assert "drift_weight" not in task["switches"]
    lacking = {key: value for key, value in task["switches"].items() if key != "gate_floor"}
    with pytest.raises(InputError, match="no key 'gate_floor'"):
        check_settings(task | {"switches": lacking}, "task.json")
    other = task["switches"] | {"memory": 3}
    with pytest.raises(InputError, match="unknown key 'memory'"):
        check_settings(task | {"switches": other}, "task.json")


def test_readers_are_told_in_the_order_of_the_tables():
    assert resolve.readers_of("columns") == ["fvit", "fvit_current", "fvit_pseudo", "joint"]
    assert resolve.readers_of("nothing") == []


def test_an_option_younger_than_others_is_in_task_json_only_where_it_is_set(tmp_path):
    base = "shapes_10_10_clclip"
    plain = tasks(write(tmp_path, base=base))
    set_to_default = tasks(write(tmp_path, base=base, switches={"objectness": 0.0}))
    assert plain == set_to_default and "objectness" not in plain[0]["switches"]
    check_settings(plain[0], "task.json")
    [task, _] = tasks(write(tmp_path, base=base, switches={"objectness": 0.3}))
    assert task["switches"] == plain[0]["switches"] | {"objectness": 0.3}


def test_a_new_default_reaches_new_tasks_and_leaves_old_ones_as_they_were(monkeypatch, tmp_path):
    """A task.json without a young option means what it meant when it was written."""
    kind, method = METHODS["clclip"]

    class Later(method.options):
        text_weight: float = Field(0.9, ge=0, le=1)

    later = dataclasses.replace(method, options=Later)
    monkeypatch.setitem(kind.methods, "clclip", later)
    old = resolve_options(kind.name, "clclip", {"text_weight": 0.4}, "here")
    assert "text_weight" not in old and later.given(old).text_weight == 0.4
    new = resolve_options(kind.name, "clclip", {}, "here")
    assert new["text_weight"] == 0.9 == later.given(new).text_weight


@pytest.mark.parametrize("name", METHODS)
def test_what_task_files_need_not_name_is_what_new_ones_have(name):
    """Until a default changes; then the value of old files stays in ``optional``, on purpose."""
    _, method = METHODS[name]
    for key, value in method.options.optional.items():
        assert method.options.model_fields[key].default == value, key
        for given in ({}, {key: value}):
            assert getattr(method.given(given), key) == value


@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_joint_takes_the_options_of_its_own_kind_alone(kind, tmp_path):
    own = KINDS[kind].methods["joint"].options.model_fields
    (other,) = (k for name, k in KINDS.items() if name != kind)
    base = "shapes_10_10_joint" if kind == "detection" else "shapes_cil_joint"
    for key in ("channels", "adapter_width", "template", "nms"):
        if key in own or key not in other.methods["joint"].options.model_fields:
            continue
        path = write(tmp_path, base=base, switches={key: 64})
        with pytest.raises(InputError, match=f"switch '{key}' means nothing for method joint"):
            tasks(path)
