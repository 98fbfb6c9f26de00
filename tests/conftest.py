"""What all tests share: bytecode for subprocesses, and paths of this checkout."""

import os
import sys
from pathlib import Path

import pytest

# Some machines switch bytecode off; every subprocess that imports torch would then take 15 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, lest one worker wait for the other at the end."""
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "workflow"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout that is tested."""
    return ROOT
