"""The house rules: packages import only lower floors, no circles, few modules a folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import clclip

PACKAGE = Path(clclip.__file__).parent
# Floors from the ground up: a package imports only packages of lower floors.
FLOORS = (
    ("core",),
    ("data", "evaluation"),
    ("clip", "results"),
    ("training",),
    ("detection", "classification"),
    ("model",),
    ("config",),
    ("workflow", "report"),
    ("cli",),
)
# Rooms of detection/, likewise; inside methods/ no method imports another's folder.
DETECTION = (
    ("options", "weights"),
    ("registry",),
    ("kind",),
    ("layers",),
    ("inputs",),
    ("methods",),
    ("stages",),
    ("tools",),
)
MODULES_A_FOLDER = 14


def modules() -> dict[str, Path]:
    """Return the package's modules by dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a file imports, inside functions and types too."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            of = [f"{node.module}.{alias.name}" for alias in node.names]
            named |= {name if name in known else str(node.module) for name in of}
    return {name for name in named if name in known}


GRAPH = {name: imports(path, modules()) for name, path in modules().items()}


def floor_of(name: str, floors: tuple[tuple[str, ...], ...], depth: int) -> int | None:
    """Return the floor of a module by the part of its name at ``depth``; None outside."""
    parts = name.split(".")
    room = parts[depth] if len(parts) > depth else None
    return next((k for k, rooms in enumerate(floors) if room in rooms), None)


def test_nothing_is_loose_in_the_package():
    loose = {path.name for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}
    known = {room for rooms in FLOORS for room in rooms}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= known, "a new package needs a floor"


@pytest.mark.parametrize(
    ("prefix", "floors"), [("clclip", FLOORS), ("clclip.detection", DETECTION)]
)
def test_a_package_imports_only_lower_floors(prefix, floors):
    depth = prefix.count(".") + 1
    wrong = []
    for name, used in GRAPH.items():
        mine = floor_of(name, floors, depth) if name.startswith(f"{prefix}.") else None
        for other in used if mine is not None else ():
            theirs = floor_of(other, floors, depth) if other.startswith(f"{prefix}.") else None
            same = name.split(".")[: depth + 1] == other.split(".")[: depth + 1]
            if theirs is not None and not same and theirs >= mine:
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    assert circles(GRAPH) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected parts of more than one module (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in graph:
        if name not in order:
            visit(name)
    return found


def test_circles_are_seen():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circles(graph) == [["b", "c"]]


def test_methods_do_not_import_each_other_from_folder_to_folder():
    """CL-CLIP imports no ``fvit*`` and no ``fvit*`` imports CL-CLIP."""
    for name, used in GRAPH.items():
        if name.startswith("clclip.detection.methods."):
            ours = name.startswith("clclip.detection.methods.clclip")
            for other in used:
                if other.startswith("clclip.detection.methods.") and ".rehearsal" not in other:
                    theirs = other.startswith("clclip.detection.methods.clclip")
                    shared = other.endswith(".detector") and other.count(".") == 3
                    assert ours == theirs or shared, f"{name} imports {other}"


def test_a_folder_holds_few_modules():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        inside = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(inside) <= MODULES_A_FOLDER, f"{folder.name}: {len(inside)}"


def test_exceptions_from_the_type_check_are_few_and_say_why():
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines()]
    exceptions = [line for line in lines if "type: ignore" in line]
    assert len(exceptions) <= 30
    for line in exceptions:
        assert re.search(r"# type: ignore\[[a-z, -]+\]  # \w", line), line


def test_files_and_functions_are_short():
    """At most 350 lines a file and 50 a function, its docstring not counted."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                docstring = node.body[0] if ast.get_docstring(node) is not None else None
                said = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
                length = node.end_lineno - node.lineno + 1 - said
                assert length <= 50, f"{path}: {node.name} has {length} lines"
