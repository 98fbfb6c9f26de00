"""Large packages are imported without what would slow that down, and nothing of it stays."""

from __future__ import annotations

import gc
import importlib.util
import sys

import pytest

from clclip.core.machine import import_quickly

ASKS = """
import gc

COLLECTS = gc.isenabled()
try:
    import wandb
    THERE = True
except ImportError:
    THERE = False
"""


@pytest.fixture
def asking(tmp_path, monkeypatch):
    """The name of a module that notes how it was imported; wandb is not loaded."""
    (tmp_path / "asking_module.py").write_text(ASKS)
    (tmp_path / "broken_module.py").write_text("raise ValueError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield "asking_module"
    sys.modules.pop("asking_module", None)
    gc.unfreeze()


def test_modules_are_imported_with_the_collector_off_and_wandb_not_asked_for(asking):
    import_quickly(asking)
    assert not sys.modules[asking].COLLECTS and not sys.modules[asking].THERE
    assert gc.isenabled() and gc.get_freeze_count()
    assert importlib.util.find_spec("wandb") is not None  # it can be imported all the same


def test_a_module_that_fails_leaves_everything_as_it_was(asking):
    with pytest.raises(ValueError, match="broken"):
        import_quickly("broken_module")
    assert gc.isenabled() and importlib.util.find_spec("wandb") is not None


def test_what_is_loaded_is_left_alone(asking):
    import_quickly(asking)
    gc.unfreeze()
    import_quickly(asking, "json")
    assert not gc.get_freeze_count()


def test_wandb_in_use_stays_in_use(asking, monkeypatch):
    in_use = importlib.util.module_from_spec(importlib.util.find_spec("json"))
    monkeypatch.setitem(sys.modules, "wandb", in_use)
    import_quickly(asking)
    assert sys.modules[asking].THERE and sys.modules["wandb"] is in_use
