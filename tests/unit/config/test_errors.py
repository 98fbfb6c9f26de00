"""Every check of the configuration says what would be right."""

import ast
from pathlib import Path

import pytest

import clclip
from clclip.config.experiment import Experiment
from clclip.core.errors import InputError
from clclip.core.models import parse

PACKAGE = Path(clclip.__file__).parent
CHECKS = (
    "config/experiment config/clip config/streams core/models core/machine detection/options "
    "classification/options"
).split()
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
