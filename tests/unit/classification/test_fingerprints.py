"""Which files are in the fingerprint of which classifier: those that it runs, and no other's."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import clclip
from clclip.classification.registry import METHODS
from clclip.model.kinds import KINDS
from clclip.workflow.fingerprint import IGNORED, IGNORED_PACKAGES, used_modules
from tests.helpers import closed_form, seca
from tests.helpers.fingerprints import CASES, changed_by, copy_package, switches
from tests.helpers.seca_streams import GROUPS, run

KIND = KINDS["classification"]
PACKAGE = Path(clclip.__file__).parent
NAMES = {*METHODS, "seca_gda"}  # seca_gda: SECA with ``classifier: gda``
CLOSED = {name for name, method in METHODS.items() if method.closed_form}
TRAINED = NAMES - CLOSED
SUMMED = CLOSED - {"zeroshot", "rapf", "vis"}
DISTILLED = TRAINED - {"finetune", "magmax", "hpeft", "hpeft_sevpr"}
FILES = {
    "classifier.py": TRAINED,
    "closed_form/fitting.py": SUMMED,
    "closed_form/gda_text.py": {"gda_text"},
    "closed_form/heads.py": SUMMED | {"vis", "seca_gda"},
    "closed_form/joining.py": {"gda_text", "seca_cov", "seca_gda"},
    "closed_form/learner.py": SUMMED,
    "closed_form/maps.py": SUMMED | {"vis", "seca_gda"},
    "closed_form/options.py": set(),
    "closed_form/record.py": SUMMED | {"vis", "seca_gda"},
    "closed_form/seca_cov.py": {"seca_cov"},
    "closed_form/semantics.py": {"seca_cov"},
    "closed_form/solver.py": SUMMED | {"vis", "seca_gda"},
    "closed_form/stages.py": SUMMED,
    "closed_form/sums.py": SUMMED | {"vis", "seca_gda"},
    "closed_form/texts.py": SUMMED,
    "features/builder.py": set(),  # stores have ids and stages of their own
    "features/layout.py": CLOSED,
    "features/moments.py": set(),
    "features/reader.py": CLOSED,
    "features/records.py": CLOSED | {"seca_gda"},
    "features/tasks.py": CLOSED,
    "features/vectors.py": CLOSED | {"seca_gda"},
    "inference.py": TRAINED,
    "kind.py": set(),
    "options.py": set(),
    "pixels.py": TRAINED,
    "rapf/adapter.py": {"rapf"},
    "rapf/options.py": set(),
    "rapf/stages.py": {"rapf"},
    "records.py": TRAINED,
    "registry.py": set(),
    "seca/adapters.py": TRAINED,
    "seca/baselines.py": TRAINED,
    "seca/frozen.py": TRAINED,
    "seca/learner.py": TRAINED,
    "seca/merging.py": {"magmax"},
    "seca/parts/classifier.py": TRAINED,
    "seca/parts/context.py": TRAINED,
    "seca/parts/replay.py": {"seca_pp"},
    "seca/parts/teacher.py": DISTILLED,
    "seca/parts/text.py": TRAINED,
    "seca/parts/visual.py": TRAINED,
    "seca/prompts.py": TRAINED,
    "seca/replay.py": {"seca_pp"},
    "seca/sevpr.py": DISTILLED - {"hpeft_sgakt"} | {"hpeft_sevpr"},
    "seca/sgakt.py": DISTILLED,
    "seca/statistics.py": {"seca_gda"},
    "stages.py": TRAINED,
    "task_files.py": NAMES,
    "train.py": TRAINED,
    "vis/mixer.py": {"vis"},
    "vis/options.py": set(),
    "vis/solving.py": {"vis"},
    "vis/stages.py": {"vis"},
    "zeroshot/options.py": set(),
    "zeroshot/stages.py": {"zeroshot"},
}
"""File -> the methods that it makes anew."""
# Of what a task imports, these are not run by each: types, and sums that ncm need not solve.
WIDE = {"ranpac": "hidden", "seca_cov": "hidden", "vis": "random_features"}  # made small here
IDLE = {"seca.parts.context", "closed_form.solver"}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package whose files may be edited."""
    return copy_package(tmp_path_factory.mktemp("copy"))


def used_by(case: str) -> set[str]:
    """Return the modules in the fingerprints of a case's stages."""
    kind, method, _ = CASES[case]
    facts = KINDS[kind].methods[method]
    codes = {KINDS[kind].module("train", method), KINDS[kind].module("predict", method)}
    idle = facts.idle(switches(case))
    return {module for code in codes | {facts.module} for module in used_modules(code, idle=idle)}


def test_each_file_is_in_the_fingerprints_of_the_methods_that_the_table_names():
    home = PACKAGE / "classification"
    used = {case: used_by(case) for case in CASES}
    found = {}
    for file in home.rglob("*.py"):
        place = file.relative_to(home)
        name = ".".join(("clclip", "classification", *place.with_suffix("").parts))
        if place.parts[0] != "tools" and place.name != "__init__.py":
            found[str(place)] = {case for case in CASES if name in used[case]}
    assert found == {
        file: {f"classification/{name}" for name in names} for file, names in FILES.items()
    }


@pytest.mark.parametrize("file", [file for file, names in FILES.items() if len(names) < 4])
def test_an_edit_of_a_method_s_own_file_makes_no_other_method_anew(file, copied):
    changed = changed_by(copied / "classification" / file, copied)
    assert changed == {f"classification/{name}" for name in FILES[file]}


class Forbidden:
    """Stands in for what must not be run or read."""

    def _refuse(self, *_args, **_more):
        raise AssertionError("run all the same")

    __call__ = __getattr__ = __eq__ = __bool__ = __iter__ = __len__ = __getitem__ = _refuse
    __hash__ = __float__ = __int__ = __index__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __mod__ = __rmod__ = __lt__ = __gt__ = __contains__ = _refuse


def forbid(modules: frozenset[str], monkeypatch) -> None:
    """Replace everything that is imported from some modules, constants too, wherever it is."""
    for path in (PACKAGE / "classification").rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if name in modules or name not in sys.modules:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                for alias in node.names:
                    assert alias.asname is None
                    monkeypatch.setattr(sys.modules[name], alias.name, Forbidden())


def run_modules(work) -> set[str]:
    """Return the modules of the package of which ``work`` calls a function."""
    files = set()

    def note(frame, event, _arg):
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # no class body
            files.add(Path(frame.f_code.co_filename))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    inside = [file for file in files if file.is_relative_to(PACKAGE)]
    return {".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts) for f in inside}


@pytest.mark.usefixtures("random_clip")
@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_fingerprint_holds_what_a_task_runs_and_nothing_else(name, tmp_path, monkeypatch):
    """So no file that only another method runs is in it; two tasks each are trained for it."""
    _, method, given = CASES[f"classification/{name}"]
    facts = METHODS[method]
    idle = facts.idle(switches(f"classification/{name}"))
    given = given | {key: 40 for key in ("hidden", "random_features") if WIDE.get(name) == key}
    making = closed_form if facts.closed_form else seca
    data = (closed_form.draw(),) if facts.closed_form else ()
    groups = GROUPS if facts.closed_form else GROUPS[:2]
    files = making.write_stream(tmp_path, method, groups, *data, given)
    stages = importlib.import_module(KIND.module("train", method))

    def work() -> None:
        if not facts.closed_form:
            return run(files)
        for file in files:
            stages.train(file, tmp_path / "resources")
            stages.predict(file, tmp_path / "resources")

    importlib.import_module("clclip.classification.classifier")
    forbid(idle, monkeypatch)
    ran = run_modules(work)
    used = used_by(f"classification/{name}")
    assert not ran - used - IGNORED
    assert not idle & used
    if name not in METHODS:
        return  # a setting: its closed form shares files with those of the whole family
    left = {module.removeprefix("clclip.classification.") for module in used - ran}
    parts = {place.removesuffix(".py").replace("/", ".") for place in FILES}
    assert left & parts <= IDLE


def test_no_result_depends_on_code_of_a_module_that_fingerprints_ignore():
    """Of modules of options only classes and values are read, never a rule."""
    modules = {module for kind in KINDS.values() for module in kind.stages.values()}
    modules |= {method.module for kind in KINDS.values() for method in kind.methods.values()}
    modules |= {method.stages for method in METHODS.values() if method.stages}
    options = {m.options.__module__ for k in KINDS.values() for m in k.methods.values()}
    assert all(name in IGNORED or name.startswith(IGNORED_PACKAGES) for name in options)
    for name in {used for module in modules for used in used_modules(module)}:
        path = PACKAGE.parent / Path(*name.split(".")).with_suffix(".py")
        for node in ast.walk(ast.parse(path.read_text())) if path.is_file() else ():
            if isinstance(node, ast.ImportFrom) and node.module in options:
                taken = vars(importlib.import_module(node.module))
                rules = [a.name for a in node.names if inspect.isfunction(taken[a.name])]
                assert not rules, (name, rules)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("counts", "lacking", "idle"), name
            if isinstance(node, ast.Attribute):
                assert node.attr != "reads_text", name
