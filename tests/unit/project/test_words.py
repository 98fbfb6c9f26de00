"""The words rule: code is named in the field's terms, so that a torchvision reader needs no key."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import clclip
from tests.plant_faults import FAULTS

PACKAGE = Path(clclip.__file__).parent
# Everyday words that once stood for everything: a name says detections, rows, stored, trained, ...
EVERYDAY = re.compile(r"\b(found|told|kept|taught|spoken|judge[sd]?|judging)\b", re.IGNORECASE)
NAMES_OF_OTHERS = {"FileNotFoundError", "PackageNotFoundError", "ModuleNotFoundError"}


def names_of(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node defines or uses."""
    for key in ("id", "arg", "attr", "name", "asname"):
        value = getattr(node, key, None)
        if isinstance(value, str):
            yield value.rpartition(".")[2]


def in_words(name: str) -> str:
    """Return a name as words: ``_told_of`` -> "told of", ``NotFound`` -> "Not Found"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ")).strip()


def everyday_words(source: str) -> list[str]:
    """Return where a module's names and docstrings use one of the words."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        place = getattr(node, "lineno", 1)
        wrong += [
            f"{place}: name {name}"
            for name in names_of(node)
            if name not in NAMES_OF_OTHERS and EVERYDAY.search(in_words(name))
        ]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            words = EVERYDAY.findall(ast.get_docstring(node) or "")
            wrong += [f"{place}: docstring says {word!r}" for word in words]
    return wrong


def test_names_and_docstrings_use_the_words_of_the_field():
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in everyday_words(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rule_sees_names_attributes_arguments_and_docstrings():
    source = (
        '"""What was found."""\n'
        "def judge_all(kept): return kept.told\n"
        "class WasFound: pass\n"
        "run(taught=1)\n"
        "text = 'found in a message is no name'\n"
        "raise FileNotFoundError\n"
    )
    lines = sorted(int(line.partition(":")[0]) for line in everyday_words(source))
    assert lines == [1, 2, 2, 2, 2, 3, 4]
    assert everyday_words("detections = stored(rows)\n") == []


def test_every_planted_fault_still_has_its_place():
    gone = [
        fault.name
        for fault in FAULTS
        if (PACKAGE.parent / fault.file).read_text(encoding="utf-8").count(fault.old) != 1
    ]
    assert not gone, f"their lines were changed: {', '.join(gone)}"
