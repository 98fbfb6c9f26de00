"""Relevance, affinity and prototypes in the report, from made-up records."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clclip.report import page
from clclip.report.benchmark import load
from clclip.report.sections.semantics import refined_rows, rows, semantics, two_axes
from tests.helpers.report import world

GROUPS = [["<i>ant</i>", "bee"], ["cod"], ["dog", "eel"]]
NAMES = [name for group in GROUPS for name in group]


@pytest.fixture
def made(tmp_path):
    """A SECA and an H-PEFT run."""
    paths = [
        world.classify(tmp_path, f"cil_{method}", method, GROUPS, 0.9)
        for method in ("hpeft", "seca")
    ]
    return tmp_path / "results", paths


def weights(results, task):
    return results / "cil_seca" / "seed0" / f"task{task}" / "weights.safetensors"


def test_relevance_is_told_per_class_and_past_task(made):
    results, paths = made
    found = semantics(load(paths)[0])
    assert [one.experiment.name for one in found] == ["cil_seca"], "H-PEFT has none of it"
    assert found[0].tasks == [1, 2]
    assert [(name, task) for name, task, _ in found[0].relevance] == [
        ("cod", 2), ("dog", 3), ("eel", 3)
    ]  # fmt: skip
    stored = load_file(weights(results, 3))["relevance"]
    assert found[0].relevance[2][2] == pytest.approx({1: stored[1, 0], 2: stored[1, 1]})


def test_pool_without_an_evicted_task(made):
    results, paths = made
    tensors = load_file(weights(results, 3))
    tensors["relevance"] = np.array([[1.0], [1.0]], np.float32)
    tensors["relevance_tasks"] = np.array([2])
    save_file(tensors, weights(results, 3))
    lines = semantics(load(paths)[0])[0].relevance
    assert [shares for _, _, shares in lines] == [{1: 1.0}, {2: 1.0}, {2: 1.0}]


def test_affinity_names_the_largest(made):
    results, paths = made
    tensors = load_file(weights(results, 3))
    matrix = np.full((5, 5), 0.05)
    np.fill_diagonal(matrix, 0.7)
    matrix[4, 1] = 0.2
    tensors["affinity"] = matrix.astype(np.float32)
    save_file(tensors, weights(results, 3))
    affinity = semantics(load(paths)[0])[0].affinity
    name, own, near = affinity.lines[4]
    assert name == "eel" and own == pytest.approx(0.7)
    assert near[0] == ("bee", pytest.approx(0.2)) and len(near) == 3
    assert affinity.high == pytest.approx(0.2), "the diagonal does not set the scale"
    ElementTree.fromstring(affinity.drawn)
    assert "&lt;i&gt;ant&lt;/i&gt;" in affinity.drawn


def test_prototypes_tell_the_nearest_other_class(made):
    results, paths = made
    axes = np.eye(5, 16, dtype=np.float32)
    raw = axes.copy()
    raw[3] = (axes[3] + 3 * axes[0]) / 10**0.5
    for task, part in ((1, slice(0, 2)), (2, slice(2, 3)), (3, slice(3, 5))):
        tensors = load_file(weights(results, task))
        save_file(tensors | {"raw": raw[part], "refined": axes[part]}, weights(results, task))
    found = semantics(load(paths)[0])[0].prototypes
    name, task, near = found.lines[3]
    assert (name, task) == ("dog", 3)
    assert near[0] == (NAMES[0], pytest.approx(3 / 10**0.5, abs=1e-5))
    assert near[1][1] == pytest.approx(0)
    assert found.means == [pytest.approx(2 * 3 / 10**0.5 / 20, abs=1e-5), pytest.approx(0)]
    for _, kept, drawn in found.panels:
        assert 0 < kept <= 1
        assert len(ElementTree.fromstring(drawn).findall("circle")) == 5


def test_refined_rows_agree_with_the_classifier(made):
    """The report reads without torch; it must put rows together as the classifier does."""
    from clclip.classification.records import Memory, read_record

    results, _ = made
    for replay in (False, True):
        if replay:
            tensors = load_file(weights(results, 3))
            tensors["refined"] = np.arange(5 * 16, dtype=np.float32).reshape(5, 16)
            save_file(tensors, weights(results, 3))
        files = [weights(results, task) for task in (1, 2, 3)]
        memory = Memory([read_record(path) for path in files])
        arrays = [load_file(path) for path in files]
        assert np.array_equal(refined_rows(arrays), memory.refined().numpy())
        assert np.array_equal(rows(arrays, "raw"), memory.rows("raw").numpy())


def test_two_axes_keep_what_is_flat():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 9))
    places, kept = two_axes(flat)
    assert kept == pytest.approx(1)
    gaps = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    assert np.linalg.norm(places[:, None] - places[None], axis=-1) == pytest.approx(gaps)


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_missing_weights_leave_the_part_out(made, content, monkeypatch):
    results, paths = made
    weights(results, 2).unlink()
    if content:
        weights(results, 2).write_bytes(content)
    monkeypatch.setattr(page, "write_figures", lambda *args: [])
    page.report(paths, results / "report.html", {})
    html = (results / "report.html").read_text()
    assert "Who wins" in html and "What class texts decided" not in html


def test_page_holds_the_part(made, monkeypatch):
    results, paths = made
    monkeypatch.setattr(page, "write_figures", lambda *args: [])
    page.report(paths, results / "report.html", {})
    html = (results / "report.html").read_text()
    for text in (
        "What class texts decided",
        "adapter 2",
        "affinity of class texts",
        "% of the spread",
    ):
        assert text in html
    assert "<i>ant" not in html
