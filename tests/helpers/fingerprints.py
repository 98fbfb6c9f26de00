"""Which methods of both kinds have another fingerprint once a file of a copy has changed."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import clclip
from clclip.config.resolve import resolve_options
from clclip.model.kinds import KINDS
from clclip.workflow.fingerprint import fingerprint, stage_fingerprint

CASES = {
    f"{kind}/{name}": (kind, name, {}) for kind, facts in KINDS.items() for name in facts.methods
} | {"classification/seca_gda": ("classification", "seca", {"classifier": "gda"})}
"""Every method of both kinds with its own settings, and one setting that runs other code."""


def copy_package(home: Path) -> Path:
    """Copy the package to ``home``/clclip, whose files may then be edited."""
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.html", "*.css")
    return Path(shutil.copytree(Path(clclip.__file__).parent, home / "clclip", ignore=ignore))


@cache
def switches(case: str) -> dict:
    """Return the switches of a case as its task.json has them."""
    kind, method, given = CASES[case]
    return resolve_options(kind, method, given, "here")


def prints(package: Path, stage: str) -> dict[str, str]:
    """Return the fingerprint of a stage for each case."""
    fingerprint.cache_clear()
    return {
        case: stage_fingerprint(stage, kind, method, package, switches(case))
        for case, (kind, method, _) in CASES.items()
    }


def changed_by(path: Path, package: Path, stage: str = "train") -> set[str]:
    """Return the cases whose stage has another fingerprint once a file has a statement more."""
    text, before = path.read_text(), _unchanged(package, stage)
    path.write_text(text + "\nUNUSED = 1\n")
    try:
        after = prints(package, stage)
    finally:
        path.write_text(text)
    return {case for case in CASES if after[case] != before[case]}


@cache
def _unchanged(package: Path, stage: str) -> dict[str, str]:
    """Return the fingerprints of the copy as it is."""
    return prints(package, stage)
