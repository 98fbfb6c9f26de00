"""What tasks of one model must share: options that shape tensors, and those that training reads."""

from __future__ import annotations

import typing

import pytest
import torch

from clclip.core.errors import InputError
from clclip.detection.methods.detector import DetectorInputs
from clclip.detection.registry import METHODS
from clclip.detection.stages.build import make_detector
from clclip.model.kinds import KINDS
from clclip.model.switches import SHAPING, UNREAD, difference, misfit, named
from clclip.workflow.describe import describe
from clclip.workflow.plan import plan_run
from tests.helpers.model import NAMES, draw_boxes, draw_folders, write_experiment

SMALL = {"channels": 8, "fc_width": 8, "expert_width": 4}


def others(field):
    """Return other values of an option."""
    choices = typing.get_args(field.annotation)
    if field.annotation is bool:
        return [not field.default]
    if isinstance(field.default, tuple):
        return [(4.0, 2.0)]
    if typing.get_origin(field.annotation) is typing.Literal:
        return [value for value in choices if value != field.default]
    if field.annotation is int:
        return [field.default + 1]
    return [0.3 if field.default != 0.3 else 0.4]


def shapes(method, options):
    """Return the tensors of a detector of three tasks."""
    own = {
        key: value for key, value in SMALL.items() if key in METHODS[method].options.model_fields
    }
    text, background = torch.randn(4, 12), torch.randn(3, 12)
    groups = [["a", "b"], ["c"], ["d"]]
    inputs = DetectorInputs(16, 8.0, groups, text, background, 0)
    state = make_detector(method, inputs, own | options).state_dict()
    return {name: value.shape for name, value in state.items()}


@pytest.mark.parametrize("method", ["clclip", "fvit", "fvit_proto", "fvit_pseudo", "fvit_mma"])
def test_the_options_that_shape_tensors_are_those_that_are_listed(method):
    options = METHODS[method].options
    plain = shapes(method, {})
    shaping = named(SHAPING, options)
    for key, field in options.model_fields.items():
        changes = [shapes(method, {key: value}) != plain for value in others(field)]
        assert any(changes) is (key in shaping), key


def test_every_listed_option_is_one_of_its_class():
    for table in (UNREAD, SHAPING):
        for options, names in table.items():
            assert names <= options.model_fields.keys(), options
    for kind in KINDS.values():
        for method in kind.methods.values():
            assert not named(UNREAD, method.options) & named(SHAPING, method.options)


def task(number=2, **switches):
    found = {"kind": "detection", "method": "clclip", "task": number, "switches": switches}
    features = {"size": 64, "dense": "maskclip"}
    return found | {"features": features, "training": {"precision": "fp32"}}


def test_what_is_not_named_has_its_default():
    one = task(adapter="copy", shared="adapters", objectness=0.0)
    assert difference(one, task(shared="adapters")) is None, "of an older version"
    assert difference(one, task(shared="adapters", objectness=0.1)) == ("objectness", 0.0, 0.1)
    assert difference(one, one | task(text_weight=0.2, negatives=3)) is None
    assert difference(task(shared="free"), task(shared="drift", drift_weight=1.0)) is None
    assert difference(task(), task(shared="drift", gate="off")).key == "gate"


def test_what_decides_nothing_of_a_first_task_may_differ_from_it():
    one, other = task(1, adapter="copy"), task(adapter="residual")
    assert difference(one, other, follows=True) is None
    assert difference(one, other).key == "adapter", "of two models side by side"
    first = task(1, adapter="copy", roi_convs=1)
    assert misfit(first, task(adapter="residual", roi_convs=1)) is None
    assert misfit(first, task(adapter="residual", roi_convs=2))[1].key == "roi_convs"
    assert misfit(first | {"task": 2}, task(3, adapter="residual"))[1].key == "adapter"


@pytest.mark.parametrize(
    ("per_task", "told"),
    [
        (
            {3: {"switches": {"adapter": "residual"}}},
            r'"residual" in one task alone.*per_task.3: switches.adapter.*"copy"',
        ),
        (
            {2: {"switches": {"adapter": "residual"}}},
            r'"residual" in one task alone.*per_task.2: switches.adapter.*"copy"',
        ),
        ({1: {"switches": {"channels": 32}}}, "32 in one.*per_task.1: switches.channels.*16"),
        ({2: {"switches": {"expert_width": 8}}}, "8 in one.*per_task.2: switches.expert_width"),
        (
            {2: {"switches": {"adapter": "residual"}}, 3: {"switches": {"adapter": "residual"}}},
            None,
        ),
        ({2: {"switches": {"text_weight": 0.2, "negatives": 3}, "training": {"lr": 0.1}}}, None),
        # what detection reads: it would change the classes of other tasks backwards
        ({2: {"switches": {"objectness": 0.9}}}, r"0.9 in one.*2: switches.objectness.*0.0, as"),
        ({3: {"switches": {"gate_floor": 0.1}}}, "0.1 in one.*3: switches.gate_floor.*0.5, as"),
        ({2: {"switches": {"proposals_test": 9}}}, "9 in one.*switches.proposals_test.*20, as"),
        ({1: {"switches": {"score_threshold": 0.2}}}, "0.2 in one.*1: switches.score_threshold"),
        ({2: {"switches": {"dense": "maskclip"}}}, '"maskclip" in one.*2: switches.dense'),
        ({2: {"training": {"image_size": 96}}}, "96 in one.*2: training.image_size.*64, as"),
        ({1: {"training": {"precision": "bf16"}}}, '"bf16".*1: training.precision.*"fp32", as'),
    ],
)
def test_a_switch_of_one_task_that_no_other_fits_is_refused_when_planned(tmp_path, per_task, told):
    draw_boxes(tmp_path / "boxes", NAMES)
    tasks = [[NAMES[0]], [NAMES[1]], [NAMES[2]]]
    path = write_experiment(tmp_path, "own", method="clclip", tasks=tasks, per_task=per_task)
    if told is None:
        assert describe(str(path))["tasks"]
    else:
        with pytest.raises(InputError, match=told) as error:
            describe(str(path))
        assert "\n" not in str(error.value)
        with pytest.raises(InputError, match=told):
            plan_run({"experiments": [str(path)]}, [tmp_path])


def test_routes_that_need_other_options_are_told_by_their_own_name(tmp_path):
    draw_boxes(tmp_path / "boxes", NAMES)
    tasks, keys = [[NAMES[0]], [NAMES[1]]], {"switches": {"route": "prior"}}
    for route in ("share", "text", "all"):
        keys["per_task"] = {2: {"switches": {"route": route}}}
        path = write_experiment(tmp_path, route, method="clclip", tasks=tasks, **keys)
        told = f'"{route}" in one task alone.*per_task.2: switches.route.*"prior", as in the tasks'
        with pytest.raises(InputError, match=told):
            describe(str(path))


def test_a_network_that_is_trained_on_as_a_whole_may_detect_otherwise_later(tmp_path):
    draw_boxes(tmp_path / "boxes", NAMES)
    draw_folders(tmp_path / "folders", NAMES)
    tasks = [[NAMES[0]], [NAMES[1]]]
    later = {2: {"switches": {"proposals_test": 9, "columns": "current"}}}
    path = write_experiment(tmp_path, "fvit", method="fvit", tasks=tasks, per_task=later)
    assert describe(str(path))["tasks"]
    later = {2: {"switches": {"compare": "seen"}, "training": {"lr": 0.1}}}
    keys = {"kind": "classification", "method": "seca", "tasks": tasks, "per_task": later}
    assert describe(str(write_experiment(tmp_path, "seca", **keys)))["tasks"]
