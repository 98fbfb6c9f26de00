"""Fingerprints of code: they change when what a stage does may change, and not with its comments.

Train, predict and score jobs carry one as a parameter, because Snakemake never looks into imported
modules and its own ``code`` trigger would retrain everything for one space in a shell line.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from clclip.model.kinds import KINDS

PACKAGE = Path(__file__).parents[1]
# What these decide reaches a stage through task.json alone, or is bookkeeping.
IGNORED_PACKAGES = ("clclip.cli", "clclip.config", "clclip.detection.options", "clclip.workflow")
IGNORED = frozenset(
    f"clclip.{name}"
    for name in "core.artifacts core.errors core.files core.kind core.machine core.models "
    "core.options detection.kind detection.registry "
    "classification.kind classification.options classification.registry "
    "classification.closed_form.options classification.rapf.options classification.vis.options "
    "classification.zeroshot.options training.tracking".split()
)


def stage_fingerprint(
    stage: str,
    kind: str,
    method: str,
    package: Path = PACKAGE,
    switches: Mapping[str, Any] | None = None,
) -> str:
    """Return the fingerprint of the code that ``stage`` runs for a kind and a method.

    A method's file is looked up by its name in the table of methods and not by an import, so it is
    looked up here; a line more in that table changes nothing for other methods.

    Args:
        stage: train, predict, ...
        kind: detection or classification.
        method: of the task.
        package: folder of the package.
        switches: of the task; modules that they never run are left out (``Options.modules``).
            None: not known, so that none is.
    """
    of = KINDS[kind]
    own = of.methods.get(method)
    idle = frozenset() if own is None or switches is None else own.idle(switches)
    stage_code = fingerprint(of.module(stage, method), package, idle)
    # None: of a task file made by hand; the stage itself says what is wrong
    if own is None or stage not in ("train", "predict"):
        return stage_code
    text = f"{stage_code};{own.code};{fingerprint(own.module, package, idle)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def fingerprint(module: str, package: Path = PACKAGE, idle: frozenset[str] = frozenset()) -> str:
    """Return a digest of ``module`` and of all modules of the package it imports, however deep.

    Args:
        module: dotted name, e.g. ``clclip.evaluation.score``.
        package: folder of the package.
        idle: modules that are imported, but never run.
    """
    total = hashlib.sha256()
    for name in used_modules(module, package, idle):
        total.update(f"{name}={_source_digest(_source(name, package))};".encode())
    return total.hexdigest()[:16]


def used_modules(
    module: str, package: Path = PACKAGE, idle: frozenset[str] = frozenset()
) -> list[str]:
    """Return the package's modules that ``module`` reaches through imports, with itself.

    What none but ``idle`` modules import is not reached.
    """
    modules: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name, package)
        if name in modules or name in idle or _ignored(name) or path is None:
            continue
        modules.add(name)
        waiting += _imports(path, name, package.name)
    return sorted(modules)


def _ignored(name: str) -> bool:
    """Tell whether a module decides nothing of what a stage makes."""
    return name in IGNORED or any(
        name == package or name.startswith(f"{package}.") for package in IGNORED_PACKAGES
    )


def _source(name: str, package: Path) -> Path | None:
    """Return the file of a dotted name inside the package, or None if it is not a module."""
    parts = name.split(".")
    if parts[0] != package.name:
        return None
    path = package.joinpath(*parts[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


class _Module(NamedTuple):
    """What one reading of a file gives.

    Attributes:
        imports: (dots in front, module, names) of every import in it, functions included.
        digest: of its syntax tree without docstrings; comments are never in it.
    """

    imports: list[tuple[int, str, list[str]]]
    digest: str


@cache
def _read(path: Path, mtime: int) -> _Module:
    """Parse a file once per version of it: most modules serve several stages."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    imports: list[tuple[int, str, list[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", [alias.name for alias in node.names]))
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # a bare text is a docstring or, after an assignment, its description: it does nothing
            body[:] = [n for n in body if not _is_text(n)] or [ast.Pass()]
    return _Module(imports, hashlib.sha256(ast.dump(tree).encode()).hexdigest())


def _module(path: Path) -> _Module:
    """Return what a file holds now."""
    return _read(path, path.stat().st_mtime_ns)


def _imports(path: Path, name: str, root: str) -> list[str]:
    """Return the dotted names of the package ``root`` that the module ``name`` imports."""
    names: list[str] = []
    for level, module, members in _module(path).imports:
        parts = [*name.split(".")[:-level], *filter(None, [module])] if level else [module]
        base = ".".join(parts)
        names += [base, *(f"{base}.{member}" for member in members)]
    return [imported for imported in names if imported.split(".")[0] == root]


def _source_digest(path: Path | None) -> str:
    """Return the digest of a file, "" of none."""
    return "" if path is None else _module(path).digest


def _is_text(node: ast.AST) -> bool:
    """Tell whether a statement is nothing but a text."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
