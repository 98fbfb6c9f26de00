"""Fingerprints change with statements of the modules in use, and with nothing else."""

import pytest

from clclip.core.kind import STAGES
from clclip.workflow.fingerprint import IGNORED, fingerprint, stage_fingerprint, used_modules


@pytest.fixture
def package(tmp_path):
    """A small package: a imports b inside a function, b imports c relatively, d stands alone."""
    home = tmp_path / "toy"
    (home / "sub").mkdir(parents=True)
    (home / "__init__.py").write_text('"""Toy."""\n')
    (home / "sub" / "__init__.py").write_text("")
    (home / "a.py").write_text(
        '"""A."""\n\ndef run():\n    """Run."""\n    from toy.sub import b\n    return b.value\n'
    )
    (home / "sub" / "b.py").write_text(
        'from ..c import value  # comment\n\nLIMIT = 3\n"""Doc."""\n'
    )
    (home / "c.py").write_text("value = 1\n")
    (home / "d.py").write_text("other = 1\n")
    return home


def value(package):
    fingerprint.cache_clear()
    return fingerprint("toy.a", package)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_follows_imports_of_functions_packages_and_relative_ones(package):
    assert used_modules("toy.a", package) == ["toy.a", "toy.c", "toy.sub", "toy.sub.b"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("a.py", '"""Run."""', '"""Another text."""'),
        ("a.py", "def run", "# why\n\n\ndef run"),
        ("sub/b.py", "# comment", "# another"),
        ("sub/b.py", '"""Doc."""', '"""Another."""'),
        ("sub/b.py", "LIMIT = 3", "LIMIT  =  (3)"),
        ("d.py", "other = 1", "other = 2"),
    ],
)
def test_stays_with_texts_formatting_and_unused_modules(package, file, old, new):
    before = value(package)
    edit(package / file, old, new)
    assert value(package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("c.py", "value = 1", "value = 2"),
        ("sub/b.py", "LIMIT = 3", "LIMIT = 4"),
        ("a.py", "return b.value", "return -b.value"),
        ("a.py", "return b.value", "return 'b.value'"),
    ],
)
def test_changes_with_a_statement_however_deep(package, file, old, new):
    before = value(package)
    edit(package / file, old, new)
    assert value(package) != before


def test_a_function_of_only_a_docstring_is_an_empty_function(package):
    (package / "c.py").write_text('value = 1\n\n\ndef f():\n    """Text."""\n')
    before = value(package)
    (package / "c.py").write_text("value = 1\n\n\ndef f():\n    pass\n")
    assert value(package) == before


def test_stages_do_not_depend_on_how_plans_are_made():
    for module in STAGES.values():
        used = used_modules(module)
        assert module in used and not IGNORED & set(used)
    assert "clclip.core.task" in used_modules("clclip.detection.stages.train")
    train = stage_fingerprint("train", "detection", "clclip")
    assert train != stage_fingerprint("score", "detection", "clclip")
    assert train != stage_fingerprint("train", "detection", "fvit_mma")
    training = set(used_modules("clclip.detection.stages.train"))
    scoring = set(used_modules("clclip.evaluation.score"))
    assert not training & {"clclip.evaluation.score", "clclip.evaluation.ap"}
    assert not scoring & {"clclip.detection.stages.train", "clclip.training.fit"}
