"""Every check of the configuration says what would be right."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import clclip
from clclip.config.clip import ClipConfig
from clclip.config.data import DataConfig
from clclip.config.experiment import EvaluationConfig, Experiment, TaskOverride, TrainingConfig
from clclip.config.run import ReportStyle, RunConfig
from clclip.core.errors import InputError, wanted
from clclip.core.models import parse
from clclip.model.kinds import KINDS

PACKAGE = Path(clclip.__file__).parent
CHECKS = (
    "config/experiment config/clip config/streams core/models core/machine "
    "detection/options/detector detection/options/fvit detection/options/clclip "
    "classification/options"
).split()
STRICT = [ClipConfig, DataConfig, EvaluationConfig, Experiment, TrainingConfig, TaskOverride]
STRICT += [ReportStyle, RunConfig]
STRICT += {method.options: 0 for kind in KINDS.values() for method in kind.methods.values()}
MINE = {"kind": "detection", "method": "clclip", "tasks": [["a"]]}
EXPECTED = {
    "neither tasks nor stream": ({"tasks": None}, "expected either tasks or stream, e.g."),
    "tasks and protocol": ({"protocol": "voc_10_10"}, "expected either tasks or stream, e.g."),
    "no key": ({"data": {"format": "coco"}}, "expected the keys root, train, test"),
    "other key": ({"data": {"format": "voc", "root": "x", "world": "y"}}, "only root, year"),
    "download": ({"data": {"format": "shapes", "download": True}}, "or format voc or cifar100"),
    "no tag": ({"clip": {"model": "ViT-B-16"}}, "expected one of openai, laion400m_e31"),
    "tag": ({"clip": {"model": "ViT-B-16", "tag": "x"}}, "expected one of openai, laion400m_e31"),
    "no weights": ({"clip": {"model": "ViT-S-16", "tag": "x"}}, "expected clip.file"),
    "no tokens": ({"clip": {"model": "RN50", "tag": "openai"}}, "a vision transformer"),
    "fractions": ({"data": {"fractions": [0.5]}}, "expected image_rule: disjoint"),
    "test images twice": (
        {"data": {"format": "yolo", "root": "x", "test": "val", "test_fraction": 0.2}},
        "test 'val' and test_fraction 0.2, in mine.yaml: data, expected one of them",
    ),
    "a model for a section": (
        {"clip": "ViT-B-16"},
        "expected a mapping of keys to values, e.g. clip: {model: ViT-B-16, tag: openai}",
    ),
    "a seed for seeds": ({"seeds": 3}, "seeds, expected a list, e.g. seeds: [3]"),
    "seeds as one text": ({"seeds": "0, 1"}, "expected a list, e.g. seeds: [0, 1]"),
    "no seeds": (
        {"seeds": None},
        "mine.yaml: seeds, expected a list, e.g. seeds: [0]",
    ),
    "a class for tasks": ({"tasks": "cat"}, "tasks, expected a list, e.g. tasks: [[cat]]"),
    "a class for a task": ({"tasks": ["cat"]}, "tasks.0, expected a list, e.g. tasks: [[cat, dog]"),
    "a number for a section": ({"training": 3}, "keys to values, e.g. training: {epochs: 8}"),
    "a number for a task's": (
        {"per_task": {2: {"training": 3}}},
        "per_task.2.training, expected a mapping of keys to values, e.g. training: {lr: 5e-4}",
    ),
    "a list for switches": ({"switches": ["a"]}, "switches, expected a mapping of keys to values"),
    "a fraction": ({"data": {"fractions": 0.5}}, "expected a list, e.g. fractions: [0.5]"),
    "a word for a number": ({"seeds": ["a"]}, "got 'a', in mine.yaml: seeds.0, expected a whole"),
    "a word for a task": (
        {"per_task": {"x": {}}},
        "yaml: per_task.x, expected a whole number",
    ),
    "blank": ({"tasks": [[" "]]}, "expected 1 to 200 characters"),
    "twice": ({"tasks": [["a"], ["a"]]}, "expected each class in one task, once"),
    "seeds": ({"seeds": [1, 1]}, "expected each seed once"),
    "kind": (
        {"data": {"format": "folder", "root": "x"}},
        "expected one of shapes, coco, voc, yolo, or kind",
    ),
}


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[1mbad\x1b[0m file",
        "\x1b[38;5;196mbad\x1b[m\n  file",
        "\x1b]8;;http://x\x07bad\x1b]8;;\x1b\\ file",
        "bad\x1bM file\x1b",
    ],
)
def test_codes_of_a_terminal_do_not_reach_a_message(text):
    error = InputError(text, text, text)
    assert error.what.split() == ["bad", "file"]
    assert str(error) == "bad file, in bad file, expected bad file"


@pytest.mark.parametrize("name", EXPECTED)
def test_what_would_be_right_is_told(name):
    changes, expected = EXPECTED[name]
    with pytest.raises(InputError) as caught:
        parse(Experiment, MINE | changes, "mine.yaml")
    assert expected in str(caught.value)
    assert caught.value.expected not in caught.value.what


@pytest.mark.parametrize("module", CHECKS)
def test_no_check_leaves_out_what_would_be_right(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    raised = [n.exc for n in ast.walk(tree) if isinstance(n, ast.Raise) and n.exc is not None]
    names = [call.func.id for call in raised if isinstance(call, ast.Call)]
    assert "ValueError" not in names


@pytest.mark.parametrize("model", [Experiment, RunConfig, TaskOverride])
def test_every_example_is_right(model):
    given = {key: yaml.safe_load(text) for key, text in model.sample_values.items()}
    needed = {"kind": "detection", "method": "clclip"} if model is Experiment else {}
    found = parse(model, needed | given, "mine.yaml")
    assert given and found.model_fields_set >= given.keys()


@pytest.mark.parametrize("model", STRICT)
def test_no_message_speaks_of_python(model):
    """Whatever a key should be, a value of no kind that YAML knows is refused in plain words."""
    for key in model.model_fields:
        with pytest.raises(ValidationError) as caught:
            model.model_validate({key: object()})
        problems = [p for p in caught.value.errors() if p["loc"][0] == key]
        for problem in problems:
            words = wanted(problem["type"], problem["msg"])
            assert not re.search("valid |instance|dictionary|tuple|pars", words), (key, words)
