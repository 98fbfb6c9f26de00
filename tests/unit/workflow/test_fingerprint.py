"""Fingerprints change with statements of the modules in use, and with nothing else."""

from pathlib import Path

import pytest

from clclip.detection.registry import METHODS
from clclip.model.kinds import KINDS
from clclip.workflow.fingerprint import IGNORED, fingerprint, stage_fingerprint, used_modules
from tests.helpers.fingerprints import CASES, changed_by, copy_package, switches


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
    for module in {module for kind in KINDS.values() for module in kind.stages.values()}:
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
    assert "clclip.data.split" in used_modules(KINDS["detection"].stages["split"])


# ---- the package itself: which edit makes which stage of which method again ---------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package whose files may be edited."""
    return copy_package(tmp_path_factory.mktemp("copy"))


def detectors(*names):
    """Return detection methods as ``changed_by`` names them."""
    return {f"detection/{name}" for name in names}


def own_files(method):
    """Return a method's own files, relative to the package: its file or its folder."""
    path = Path(*METHODS[method].module.split(".")[1:]).with_suffix(".py")
    return [path] if path.parent.name == "methods" else [path.parent / "*.py"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", ["train", "predict"])
def test_a_method_s_own_files_are_in_no_other_method_s_fingerprint(method, stage, copied):
    """But in those of methods that are the same class, or build on it; so of both kinds.

    For the files of classifiers see ``classification/test_fingerprints.py``.
    """
    cls = METHODS[method].load()
    same = detectors(*(name for name, other in METHODS.items() if issubclass(other.load(), cls)))
    files = [file for pattern in own_files(method) for file in copied.glob(str(pattern))]
    assert files
    for file in files:
        if file.name != "__init__.py":
            assert changed_by(file, copied, stage) == same, file


def test_what_methods_share_is_in_the_fingerprints_of_those_that_share_it(copied):
    methods = copied / "detection" / "methods"
    baselines = detectors(*(name for name in METHODS if not name.startswith("clclip")))
    assert changed_by(methods / "two_stage.py", copied) == baselines
    distilled = detectors("fvit_mma", "fvit_replay", "fvit_proto")
    assert changed_by(methods / "distilled.py", copied) == distilled
    rehearsing = detectors("fvit_replay", "fvit_ior")
    assert changed_by(methods / "rehearsal" / "pasting.py", copied) == rehearsing
    for shared in (methods / "detector.py", copied / "detection" / "layers" / "path.py"):
        assert changed_by(shared, copied) == detectors(*METHODS)


@pytest.mark.parametrize(
    "file",
    [
        "detection/options/detector.py",
        "detection/options/fvit.py",
        "detection/options/clclip.py",
        "detection/registry.py",
        "core/options.py",
        "core/kind.py",
    ],
)
def test_a_new_option_or_method_is_no_other_code(file, copied):
    assert not changed_by(copied / file, copied)


def test_edits_of_the_split_rerun_it_and_only_scoring_code_reruns_scores(copied):
    assert changed_by(copied / "data" / "split.py", copied, "split") == set(CASES)
    assert changed_by(copied / "evaluation" / "score.py", copied, "score") == set(CASES)
    for file in ("report/page.py", "report/benchmark.py", "clip/ids.py", "clip/trunk.py"):
        assert not changed_by(copied / file, copied, "score"), file


def test_where_no_switches_are_known_nothing_is_left_out():
    task, own = ("train", "classification", "hpeft"), switches("classification/hpeft")
    assert stage_fingerprint(*task) != stage_fingerprint(*task, switches=own)
