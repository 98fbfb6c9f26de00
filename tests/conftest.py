"""What all tests share: bytecode for subprocesses, and paths of this checkout."""

import os
import sys
from pathlib import Path

import pytest

# Some machines switch bytecode off; every subprocess that imports torch would then take 15 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout that is tested."""
    return ROOT
