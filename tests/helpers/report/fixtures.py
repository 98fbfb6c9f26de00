"""Made-up runs and their report, as fixtures."""

from __future__ import annotations

import shutil

import pytest

from clclip.report import page
from tests.helpers.report import world

NAMES = ["red <b>disc</b> & co", "blue disc", 'green "disc"', "gold disc", "plum disc", "teal disc"]
GROUPS = [NAMES[:3], NAMES[3:]]
METHODS = ("fvit", "fvit_current", "clclip", "joint")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Four detection and two classification experiments, and their report."""
    root = tmp_path_factory.mktemp("made")
    truth = world.draw_images(root, NAMES, 30)
    paths = [world.run(root, f"zoo_{m}", m, GROUPS, truth, (0, 1), "3_3") for m in METHODS]
    for name, method, keep in (("cil_hpeft", "hpeft", 0.8), ("cil_seca", "seca", 0.99)):
        paths.append(world.classify(root, name, method, [["a", "b"], ["c"], ["d"]], keep))
    world.store_features(root, truth, NAMES)
    out = root / "results" / "report.html"
    text = page.report(paths, out, {"title": "Of <mice> & men", "examples": 4})
    return {"root": root, "paths": paths, "out": out, "text": text, "html": out.read_text()}


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the made-up runs that a test may break."""
    shutil.copytree(made["root"], tmp_path / "copy")
    paths = [tmp_path / "copy" / path.relative_to(made["root"]) for path in made["paths"]]
    return tmp_path / "copy", paths


@pytest.fixture
def no_figures(monkeypatch):
    """Leave the figure files out, which take most of the time."""
    monkeypatch.setattr(page, "write_figures", lambda *args: [])
