"""VIS: gradients against differences, its ridge against one that sees all images, its stream."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clclip.classification.closed_form.maps import projection
from clclip.classification.closed_form.sums import Sums
from clclip.classification.features.records import read_tensors, write_record
from clclip.classification.vis import mixer as mixing
from clclip.classification.vis import solving, stages
from clclip.classification.vis.options import VisOptions
from clclip.core.errors import InputError
from tests.helpers import closed_form as making

GROUPS = [["ant", "bee"], ["cat", "dog"], ["elk", "fox"]]
SMALL = {"random_features": 30, "mixer_width": 8}


def run(base, groups=GROUPS, **switches):
    """Run a stream; return its task files and the last task's probabilities by class name."""
    files = making.write_stream(base, "vis", groups, making.draw(), SMALL | switches)
    for file in files:
        stages.train(file, base / "resources")
    stages.predict(files[-1], base / "resources")
    found = json.loads((files[-1].parent / "predictions.json").read_text())
    order = [found["classes"].index(name) for name in making.NAMES]
    return files, np.array(found["probabilities"])[:, order]


def taps_of(split: str) -> np.ndarray:
    """Return the pooled tokens (L, N, d) of a split of the stream's images."""
    features = making.draw()[split][0]
    return np.stack([making.tokens_after(tap, features) for tap in making.TAPS])


def moved(mixer, key, place, step):
    """Return a mixer with one weight moved."""
    value = np.array(getattr(mixer, key))
    value[place] += step
    return mixing.Mixer(**{k: getattr(mixer, k) for k in mixing.KEYS} | {key: value})


def test_gradients_are_those_of_the_loss():
    draws = np.random.default_rng(0)
    taps, labels = draws.standard_normal((3, 6, 4)), np.arange(6) % 2
    mixer = mixing.new_mixer(taps, 5, draws)
    mixer = mixing.Mixer(
        mixer.scale, mixer.v, mixer.v_bias, draws.standard_normal((4, 5)), mixer.u_bias
    )
    head = draws.standard_normal((2, 4)), draws.standard_normal(2)
    tokens = mixer.scaled(taps)

    def loss(one, by=head):
        return mixing.step_gradients(one, by, tokens, labels, 0.3)[0]

    _, found, by_head = mixing.step_gradients(mixer, head, tokens, labels, 0.3)
    for key, value in found.items():
        for place in list(np.ndindex(value.shape))[::3]:
            sides = [loss(moved(mixer, key, place, step)) for step in (1e-6, -1e-6)]
            assert value[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-6), key
    for k in (0, 1):
        for place in np.ndindex(by_head[k].shape):
            step = np.zeros_like(head[k])
            step[place] = 1e-6
            both = [
                loss(mixer, tuple(h + s * step if n == k else h for n, h in enumerate(head)))
                for s in (1, -1)
            ]
            assert by_head[k][place] == pytest.approx((both[0] - both[1]) / 2e-6, abs=1e-6)


def test_an_untrained_mixer_is_the_last_token_and_training_lowers_the_loss():
    draws = np.random.default_rng(1)
    labels = np.repeat([0, 1], 40)
    taps = draws.standard_normal((2, 80, 6)) + labels[None, :, None] * np.eye(6)[0]
    fresh = mixing.trained_mixer(taps, labels, VisOptions(mixer_epochs=0), np.random.default_rng(2))
    last = taps[-1] / np.sqrt(np.square(taps[-1]).mean())
    assert np.allclose(fresh(taps), last)
    options = VisOptions(mixer_epochs=30, mixer_lr=0.05)
    mixer = mixing.trained_mixer(taps, labels, options, np.random.default_rng(2))

    def apart(u):
        means = [u[labels == k].mean(axis=0) for k in (0, 1)]
        within = np.concatenate([u[labels == k] - means[k] for k in (0, 1)]).std()
        return np.linalg.norm(means[0] - means[1]) / within

    assert apart(mixer(taps)) > 1.2 * apart(last)


def test_sums_solve_what_all_images_at_once_would():
    """The published equations with targets -1 and +1 over the images of all tasks."""
    draws = np.random.default_rng(3)
    phi, labels = np.maximum(draws.standard_normal((50, 7)), 0), np.arange(50) % 3
    p = np.hstack([phi, np.ones((50, 1))])
    targets = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    cost, penalty = 10.0, 0.7
    left = penalty * np.eye(8) + cost * p.T @ p
    by_hand = p @ np.linalg.solve(left, cost * p.T @ targets)
    found = solving.one_against_all(Sums.of(phi, labels, 3), penalty / cost)
    assert np.allclose(phi @ found.weights + found.bias, by_hand, atol=1e-8)


def test_the_stream_is_its_mixer_and_one_ridge(tmp_path):
    files, found = run(tmp_path)
    first = read_tensors(files[0].parent / "weights.safetensors")
    mixer, penalty = mixing.Mixer.of(first), first["penalty"][0]
    w = projection(0, making.WIDTH, 30)
    phi = [np.maximum(mixer(taps_of(split)) @ w, 0) for split in ("train", "test")]
    scores = solving.one_against_all(Sums.of(phi[0], making.draw()["train"][1], 6), penalty / 10)
    e = np.exp(5 * (phi[1] @ scores.weights + scores.bias))
    assert np.allclose(found, e / e.sum(axis=1, keepdims=True), atol=1e-5)
    assert penalty in solving.PENALTIES
    for file in files[1:]:
        later = read_tensors(file.parent / "weights.safetensors")
        assert set(later) == {"features", "labels", "folds"}


def test_after_the_first_task_no_order_changes_an_answer(tmp_path):
    _, one = run(tmp_path / "a")
    _, other = run(tmp_path / "b", [GROUPS[0], ["fox", "cat"], ["dog"], ["elk"]])
    assert np.allclose(one, other, atol=1e-6)


def test_a_stream_is_repeated_byte_for_byte_and_sums_serve_as_well(tmp_path, monkeypatch):
    runs = [run(tmp_path / name) for name in ("a", "b")]
    for one, two in zip(runs[0][0], runs[1][0], strict=True):
        places = [file.parent / "weights.safetensors" for file in (one, two)]
        assert places[0].read_bytes() == places[1].read_bytes()
    monkeypatch.setattr("clclip.classification.closed_form.maps.rows_are_smaller", lambda *a: False)
    assert np.allclose(run(tmp_path / "c")[1], runs[0][1], atol=1e-5)


def test_records_of_another_kind_are_refused(tmp_path):
    files, _ = run(tmp_path)
    place = files[0].parent / "weights.safetensors"
    kept = read_tensors(place)
    write_record(place, {k: v for k, v in kept.items() if k != "mixer.v"}, {})
    with pytest.raises(InputError, match=r"no tensor 'mixer\.v'"):
        stages.predict(files[-1], tmp_path / "resources")
    write_record(place, kept | {"mixer.u_bias": np.zeros(5, np.float32)}, {})
    with pytest.raises(InputError, match="a mixer of 2 blocks of width 5"):
        stages.predict(files[-1], tmp_path / "resources")
