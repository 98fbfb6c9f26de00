"""RAPF: its gradients against differences, its fusion by hand, and its stream."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

from clclip.classification.kind import CLASSIFICATION
from clclip.classification.rapf import adapter, stages
from clclip.classification.rapf.options import RapfOptions
from clclip.core.errors import InputError
from tests.helpers import closed_form as making

GROUPS = [["ant", "bee"], ["cat", "dog"], ["elk", "fox"]]


def numbers(seed=0, count=7, width=5, classes=4):
    """Return an adapter, rows, labels and unit texts."""
    draws = np.random.default_rng(seed)
    text = draws.standard_normal((classes, width))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    rows = draws.standard_normal((count, width))
    return draws.standard_normal((width, width)), rows, np.arange(count) % classes, text


def by_differences(loss, value):
    """Return the gradient of ``loss`` at ``value`` by central differences."""
    found = np.zeros_like(value)
    for place in np.ndindex(value.shape):
        moved = [np.array(value), np.array(value)]
        moved[0][place] += 1e-6
        moved[1][place] -= 1e-6
        found[place] = (loss(moved[0]) - loss(moved[1])) / 2e-6
    return found


def test_gradients_are_those_of_the_losses():
    a, rows, labels, text = numbers()

    def entropy(value):
        return adapter.entropy_step(value, rows, labels, text, 5.0)[0]

    found = adapter.entropy_step(a, rows, labels, text, 5.0)[1]
    assert np.allclose(found, by_differences(entropy, a), atol=1e-6)
    old, new = text[labels], text[(labels + 1) % 4]

    def hinge(value):
        return adapter.hinge_step(value, rows, old, new, 0.1)[0]

    assert hinge(a) > 0
    found = adapter.hinge_step(a, rows, old, new, 0.1)[1]
    assert np.allclose(found, by_differences(hinge, a), atol=1e-6)


def test_fusion_keeps_the_old_where_little_moved():
    old = np.diag([3.0, 2.0, 1.0])
    assert np.allclose(adapter.fused(old, old, 0.6), old)
    new = np.array(old)
    new[0, 1], new[2, 0] = 1.0, 0.2  # U = V = I up to signs: entries are fused one by one
    found = adapter.fused(old, new, 0.6)
    assert found[0, 1] == pytest.approx(1.0)  # the largest change is taken over
    assert found[2, 0] == pytest.approx(0.2 * (0.2 + 0.6))
    assert np.allclose(np.diagonal(found), np.diagonal(old))
    assert np.allclose(adapter.fused(old, new, 1.0), new)


def test_pairs_are_of_old_and_new_classes_with_near_texts():
    text = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]])
    assert adapter.near_pairs(text, 2, 0.7) == [(0, 2)]
    assert adapter.near_pairs(text, 2, 0.95) == [(0, 2), (1, 2)]
    assert adapter.near_pairs(text, 0, 2.0) == []


def test_gaussians_draw_what_they_were_fitted_to():
    draws = np.random.default_rng(0)
    x = draws.standard_normal((4000, 3)) @ np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0.5]]) + 3
    fitted = adapter.gaussians_of(x, np.zeros(4000, int), 1)
    drawn = fitted.draw(0, 20_000, draws)
    assert np.allclose(drawn.mean(axis=0), x.mean(axis=0), atol=0.05)
    assert np.allclose(np.cov(drawn.T), np.cov(x.T), atol=0.15)


def run(base, data, **switches):
    """Train a stream; return its task files and the predictions after the last task."""
    values = RapfOptions(**switches).model_dump()
    files = making.write_stream(base, "rapf", GROUPS, data, values)
    for file in files:
        stages.train(file, base / "resources")
    stages.predict(files[-1], base / "resources")
    return files, json.loads((files[-1].parent / "predictions.json").read_text())


def test_stream_learns_every_task_and_is_reproducible(tmp_path):
    data = making.draw()
    data["text"] = np.roll(data["text"], 1, axis=0)  # the names say nothing: A must learn
    files, found = run(tmp_path / "a", data, epochs=60, lr=0.02, milestones=(40,))
    guesses = [found["classes"][k] for k in np.argmax(found["probabilities"], axis=1)]
    right = [guess == label for guess, label in zip(guesses, found["labels"], strict=True)]
    assert np.mean(right) > 0.45  # of six classes
    identity = stages.Adapted(np.eye(making.WIDTH), data["text"], 100.0)
    alone = identity.log_probabilities(data["test"][0][None]).argmax(axis=1)
    assert (alone == data["test"][1]).mean() < 0.2  # the texts by themselves
    other, _ = run(tmp_path / "b", data, epochs=60, lr=0.02, milestones=(40,))
    for one, two in zip(files, other, strict=True):
        names = [file.parent / "weights.safetensors" for file in (one, two)]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_a_record_of_another_method_is_refused(tmp_path):
    files, _ = run(tmp_path, making.draw(), epochs=1)
    with pytest.raises(InputError, match="shape"):
        stages.load_solved(files[-1], making.WIDTH + 1)
    (files[0].parent / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="no such file"):
        stages.predict(files[-1], tmp_path / "resources")


@pytest.mark.parametrize("method", CLASSIFICATION.methods)
def test_a_method_has_the_stages_that_its_tasks_run(method):
    for stage in ("train", "predict"):
        module = importlib.import_module(CLASSIFICATION.module(stage, method))
        assert callable(getattr(module, stage)), f"{module.__name__}.{stage}"
