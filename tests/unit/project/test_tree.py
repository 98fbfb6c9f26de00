"""What lies at the top of the tree: nothing that a run or an experiment left there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = {"benchmarks", "clclip", "config", "docs", "envs", "profiles", "tests", "workflow"}
LARGEST = 4 * 2**20  # bytes: the shipped CLIPs are below


def tracked() -> list[str]:
    """Return the files that git holds."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")


def test_no_folder_is_at_the_top_but_those_of_the_layout():
    top = {name.split("/")[0] for name in tracked() if "/" in name}
    assert {name for name in top if not name.startswith(".")} == FOLDERS


def test_no_file_is_as_large_as_weights_are():
    found = [name for name in tracked() if name and (ROOT / name).is_file()]
    assert [name for name in found if (ROOT / name).stat().st_size > LARGEST] == []
