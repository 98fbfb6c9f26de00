"""Drift of shared modules in the report, from made-up probes."""

from __future__ import annotations

import numpy as np
import pytest

from clclip.report import page
from clclip.report.benchmark import load
from clclip.report.sections.drift import drift, module_drift
from tests.helpers.report import world

NAMES = ["red disc", "blue disc", "green disc"]
GROUPS = [[name] for name in NAMES]


def rows(scale, images=3, width=8):
    """Sketches that are ``scale`` times a fixed one."""
    return (scale * np.ones((images, width))).tolist()


def test_one_path_that_moves():
    probes = [[{"pyramid": rows(scale), "boxes": rows(2)}] for scale in (1.0, 1.25, 0.5)]
    assert module_drift(probes) == [
        ("pyramid", [pytest.approx(25), pytest.approx(50)]),
        ("boxes", [0.0, 0.0]),
    ]


def test_a_path_per_task_is_compared_with_its_own_task():
    first, second = {"boxes": rows(1.0)}, {"boxes": rows(4.0)}
    probes = [[first], [first, second], [first, {"boxes": rows(5.0)}, {"boxes": rows(9.0)}]]
    # after task 2 path 1 alone is older; after task 3 both, of which path 2 moved by a quarter
    assert module_drift(probes) == [("boxes", [0.0, pytest.approx(12.5)])]


@pytest.fixture
def made(tmp_path):
    """A stream of three tasks by two methods, of which one left probes."""
    truth = world.draw_images(tmp_path, NAMES, 10)
    paths = [world.run(tmp_path, f"zoo_{m}", m, GROUPS, truth) for m in ("fvit", "clclip")]
    overlap = {"previous": 0.2, "between": 0.15, "current": None}
    for task in (1, 2, 3):
        folder = paths[1].parent / "seed0" / f"task{task}"
        probe = {"images": [10, 11, 12], "sketches": [{"pyramid": rows(float(task))}]}
        maps = {"cost volume": overlap, "gate": overlap | {"between": 0.05}}
        world.write(folder / "probe.json", probe | {"overlap": maps})
        world.write(folder / "recall.json", {"P": None if task == 1 else 90.0 / task})
    return paths


def test_probes_of_an_experiment(made):
    found = drift(load(made)[0])
    assert [one.experiment.name for one in found] == ["zoo_clclip"]
    assert found[0].tasks == [2, 3] and found[0].recall == [45.0, 30.0]
    assert found[0].modules == [("pyramid", [pytest.approx(100), pytest.approx(200)])]
    assert found[0].overlap == [
        ("cost volume", [0.2, 0.15, None]),
        ("gate", [0.2, 0.05, None]),
    ]


def test_seeds_are_averaged(tmp_path):
    truth = world.draw_images(tmp_path, NAMES, 10)
    path = world.run(tmp_path, "zoo_fvit", "fvit", GROUPS, truth, seeds=(0, 5))
    for seed, growth in ((0, 1.0), (5, 3.0)):
        for task in (1, 2, 3):
            folder = path.parent / f"seed{seed}" / f"task{task}"
            maps = {"gate": {"previous": growth, "between": None, "current": None}}
            sketches = [{"pyramid": rows(1 + growth * (task - 1))}]
            probe = {"images": [10, 11, 12], "sketches": sketches, "overlap": maps}
            world.write(folder / "probe.json", probe)
            world.write(folder / "recall.json", {"P": None if task == 1 else 10 * growth})
    (found,) = drift(load([path])[0])
    assert found.modules == [("pyramid", [pytest.approx(200), pytest.approx(400)])]
    assert found.recall == [20.0, 20.0] and found.overlap == [("gate", [2.0, None, None])]


def test_page_holds_the_part(made, monkeypatch):
    monkeypatch.setattr(page, "write_figures", lambda *args: [])
    out = made[0].parent.parent / "report.html"
    page.report(made, out, {"examples": 0})
    html = out.read_text()
    assert "What moved inside" in html and "recall of proposals" in html and "0.050" in html
    assert "200.0" in html


@pytest.mark.parametrize(
    "value", ["{", {"images": [1]}, {"images": [9], "sketches": [], "overlap": None}]
)
def test_broken_probes_leave_the_part_out(made, value):
    path = made[1].parent / "seed0" / "task2" / "probe.json"
    path.write_text(value) if isinstance(value, str) else world.write(path, value)
    assert drift(load(made)[0]) == []
