"""Which files are in the fingerprint of which method and setting: an edit makes no other anew."""

from __future__ import annotations

import inspect
import shutil
import sys
from pathlib import Path

import pytest

import clclip
from clclip.classification.registry import METHODS
from clclip.config.resolve import resolve_options
from clclip.workflow.fingerprint import fingerprint, stage_fingerprint
from tests.helpers.seca import write_stream
from tests.helpers.seca_streams import GROUPS, run

KIND = "classification"
TRAINED = {name for name, method in METHODS.items() if not method.closed_form} | {"seca_gda"}
WITHOUT_TEACHER = {"hpeft", "hpeft_sevpr"}
CLOSED = {name for name in METHODS if name not in TRAINED}
SUMMED = CLOSED - {"zeroshot", "rapf", "vis"}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package whose files may be edited."""
    home = tmp_path_factory.mktemp("copy") / "clclip"
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.html", "*.css")
    shutil.copytree(Path(clclip.__file__).parent, home, ignore=ignore)
    return home


def changed_by(file, package):
    """Return the methods whose task has another fingerprint once a file has a statement more.

    ``seca_gda`` stands for SECA with ``classifier: gda``.
    """
    cases = {name: (name, {}) for name in METHODS} | {"seca_gda": ("seca", {"classifier": "gda"})}

    def told():
        fingerprint.cache_clear()
        return {
            name: [
                stage_fingerprint(
                    stage, KIND, method, package, resolve_options(KIND, method, given, "here")
                )
                for stage in ("train", "predict")
            ]
            for name, (method, given) in cases.items()
        }

    path = package / "classification" / file
    text, before = path.read_text(), told()
    path.write_text(text + "\nUNUSED = 1\n")
    after = told()
    path.write_text(text)
    for name in cases:  # a stage of a task never changes alone
        assert (before[name][0] == after[name][0]) == (before[name][1] == after[name][1])
    return {name for name in cases if before[name] != after[name]}


@pytest.mark.parametrize(
    ("file", "methods"),
    {
        "seca/sgakt.py": TRAINED - WITHOUT_TEACHER,
        "seca/statistics.py": {"seca_gda"},
        "seca/merging.py": {"finetune", "magmax"},
        "seca/adapters.py": TRAINED,
        "closed_form/heads.py": CLOSED | {"seca_gda"},
        "closed_form/semantics.py": SUMMED | {"vis", "seca_gda"},
        "closed_form/fitting.py": SUMMED,
        "closed_form/stages.py": SUMMED,
        "features/tasks.py": CLOSED,
        "rapf/adapter.py": {"rapf"},
        "vis/mixer.py": {"vis"},
        "zeroshot/stages.py": {"zeroshot"},
        "options.py": set(),
        "registry.py": set(),
    }.items(),
)
def test_an_edit_makes_only_the_tasks_anew_that_run_it(file, methods, copied):
    assert changed_by(file, copied) == methods


@pytest.mark.usefixtures("random_clip")
@pytest.mark.parametrize("method", ["hpeft_sevpr", "seca", "magmax"])
def test_what_a_fingerprint_leaves_out_is_not_run(method, tmp_path, monkeypatch):
    """Every function and class of it raises an error, wherever it was imported."""
    left_out = METHODS[method].options.idle(resolve_options(KIND, method, {}, "here"))
    assert left_out

    def refuse(*_args, **_more):
        raise AssertionError("run all the same")

    for name, module in [*sys.modules.items()]:
        if name.startswith("clclip.classification"):
            for key, value in [*vars(module).items()]:
                made = inspect.isfunction(value) or inspect.isclass(value)
                if made and value.__module__ in left_out:
                    monkeypatch.setattr(module, key, refuse)
    run(write_stream(tmp_path, method, GROUPS))
