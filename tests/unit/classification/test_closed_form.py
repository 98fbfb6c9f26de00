"""Closed-form classifiers against formulas written out anew, and what no order of tasks changes."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from clclip.classification.closed_form import heads, record, solver, stages
from clclip.classification.closed_form.joining import Balance, fitted_balance, joined_logits
from clclip.classification.closed_form.maps import projection
from clclip.classification.closed_form.record import fold_of
from clclip.classification.closed_form.semantics import refined_means
from clclip.classification.closed_form.sums import Sums, joined, one_hot
from clclip.classification.features import records
from clclip.core.errors import InputError
from tests.helpers import closed_form as making

METHODS = ["ncm", "ridge", "ranpac", "gda", "gda_text", "seca_cov"]
GROUPS = [["ant", "bee"], ["cat", "dog"], ["elk", "fox"]]
SMALL = {"ranpac": {"hidden": 40}, "seca_cov": {"hidden": 40}}


def run(base: Path, method: str, groups=GROUPS, data=None, **switches):
    """Run a stream; return its task files and the probabilities by class name of the last task."""
    data = data or making.draw()
    own = SMALL.get(method, {}) | switches
    files = making.write_stream(base, method, groups, data, own)
    for file in files:
        stages.train(file, base / "resources")
    stages.predict(files[-1], base / "resources")
    found = json.loads((files[-1].parent / "predictions.json").read_text())
    table = np.array(found["probabilities"])
    order = [found["classes"].index(name) for name in making.NAMES]
    rows = np.argsort(found["images"])
    return files, table[rows][:, order]


def softmax(logits):
    """Return probabilities of logits (N, K)."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def unit(x):
    """Return rows of unit length."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def by_hand(method: str, data) -> np.ndarray:
    """Return probabilities (N, K) of the test images by the published equations, all at once."""
    (x, y), (z, _) = data["train"], data["test"]
    x, z, k = x.astype(float), z.astype(float), len(making.NAMES)
    if method == "ncm":
        means = np.stack([unit(x)[y == c].mean(axis=0) for c in range(k)])
        return softmax(20 * unit(z) @ unit(means).T)
    if method == "gda":
        x, z, n = unit(x), unit(z), len(x)
        means = np.stack([x[y == c].mean(axis=0) for c in range(k)])
        centred = x - means[y]
        sigma, d = centred.T @ centred / (n - k), x.shape[1]
        p = d * np.linalg.pinv((n - 1) * sigma + np.trace(sigma) * np.eye(d))
        scores = z @ p @ means.T - 0.5 * np.einsum("kd,de,ke->k", means, p, means)
        return softmax(scores * (n - 1) / d)
    if method == "ranpac":
        w = projection(0, x.shape[1], 40)
        x, z = np.maximum(x @ w, 0), np.maximum(z @ w, 0)
    else:
        x, z = unit(x), unit(z)
    targets, errors = np.eye(k)[y], []
    for penalty in solver.PENALTIES:
        hat = x @ np.linalg.pinv(x.T @ x + penalty * np.eye(x.shape[1]), hermitian=True) @ x.T
        rest = np.square(targets - hat @ targets).sum() / len(x)
        errors.append(rest / (1 - np.trace(hat) / len(x)) ** 2)
    best = solver.PENALTIES[int(np.argmin(errors))]
    weights = np.linalg.solve(x.T @ x + best * np.eye(x.shape[1]), x.T @ targets)
    return softmax(10 * z @ weights)


@pytest.mark.parametrize("method", ["ncm", "ridge", "ranpac", "gda"])
def test_stream_equals_the_published_equations(method, tmp_path):
    data = making.draw(3)
    _, found = run(tmp_path, method, data=data)
    assert np.allclose(found, by_hand(method, data), atol=1e-5)


def seca_cov_by_hand(data, text) -> np.ndarray:
    """Return probabilities (N, K) of seca_cov written out anew, a ridge for each image left out."""
    (x, y), (z, _) = data["train"], data["test"]
    k, n, targets = len(making.NAMES), len(y), np.eye(len(making.NAMES))[y]
    w = projection(0, x.shape[1], 40)
    hidden, others = (
        np.mean([np.maximum(unit(v.astype(float)) @ w, 0) for v in (rows, rows[:, ::-1])], axis=0)
        for rows in (x, z)
    )
    mean, other = (
        np.mean([unit(v.astype(float)) for v in (rows, rows[:, ::-1])], axis=0) for rows in (x, z)
    )
    penalty = 0.1 * solver.gcv_penalty_of_rows(hidden, targets)

    def weights(rows):
        gram = hidden[rows].T @ hidden[rows] + penalty * np.eye(hidden.shape[1])
        return np.linalg.solve(gram, hidden[rows].T @ targets[rows])

    left = np.stack([hidden[i] @ weights(np.arange(n) != i) for i in range(n)])
    folds = np.array([fold_of(1 + row) for row in range(n)])  # ids count from 1

    def halves(rows, scores, features):
        own = heads.discriminant(Sums.of(left[rows], y[rows], k)).logits(scores)
        sums = Sums.of(mean[rows], y[rows], k)
        return own, heads.discriminant(sums, refined_means(sums, text)).logits(features)

    first, second = np.zeros((n, k)), np.zeros((n, k))
    for fold in np.unique(folds):
        out = folds == fold
        first[out], second[out] = halves(~out, left[out], mean[out])
    balance = fitted_balance(first, second, y)
    every = np.ones(n, bool)
    one, two = halves(every, others @ weights(every), other)
    return softmax(balance.first * one + balance.second * two)


def test_seca_cov_equals_its_parts_written_out(tmp_path):
    data = making.draw(3)
    _, found = run(tmp_path, "seca_cov", data=data)
    assert np.allclose(found, seca_cov_by_hand(data, data["text"].astype(float)), atol=1e-5)


def test_gda_text_equals_the_published_equation(tmp_path):
    data = making.draw(3)
    files, found = run(tmp_path, "gda_text", data=data)
    kept = record.read_record(files[0].parent / "weights.safetensors")
    cosines = 100 * unit(data["test"][0].astype(float)) @ data["text"].astype(float).T
    by_features = np.log(by_hand("gda", data))
    first, second = kept["balance"]
    assert np.allclose(found, softmax(first * cosines + second * by_features), atol=1e-5)


@pytest.mark.parametrize("method", ["ridge", "ranpac", "gda", "seca_cov"])
def test_one_image_a_class_makes_a_classifier(method, tmp_path):
    data = making.draw(3)
    x, y = data["train"]
    rows = np.unique(y, return_index=True)[1]
    _, found = run(tmp_path, method, data=data | {"train": (x[rows], y[rows])})
    assert np.isfinite(found).all() and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == data["test"][1]).mean() > 0.4


@pytest.mark.parametrize("method", ["ridge", "ranpac", "gda"])
def test_an_image_and_its_mirror_image_are_one_row(method, tmp_path):
    """Where an image is its own mirror image, the second view changes nothing."""
    data = making.draw(3)
    half = making.WIDTH // 2
    data |= {
        split: (np.concatenate([data[split][0][:, :half], data[split][0][:, :half][:, ::-1]], 1), y)
        for split, y in ((split, data[split][1]) for split in ("train", "test"))
    }
    _, one = run(tmp_path / "one", method, data=data)
    _, two = run(tmp_path / "two", method, data=data, mirror=True)
    assert np.allclose(one, two, atol=1e-9)


@pytest.mark.parametrize("method", ["ncm", "ridge", "ranpac", "gda", "seca_cov"])
def test_no_order_of_tasks_changes_an_answer(method, tmp_path):
    _, first = run(tmp_path / "a", method)
    for place, order in (
        ("b", [["elk", "bee"], ["fox"], ["cat", "ant", "dog"]]),
        ("c", [making.NAMES]),
    ):
        _, other = run(tmp_path / place, method, order)
        assert np.allclose(first, other, atol=1e-6), order


@pytest.mark.parametrize("method", METHODS)
def test_sums_and_rows_make_the_same_classifier(method, tmp_path, monkeypatch):
    _, rows = run(tmp_path / "rows", method)
    monkeypatch.setattr("clclip.classification.closed_form.maps.rows_are_smaller", lambda *a: False)
    files, sums = run(tmp_path / "sums", method)
    kept = record.read_record(files[0].parent / "weights.safetensors")
    assert "gram" in kept and "features" not in kept
    if method == "seca_cov":  # corrected and balanced on rows; sums fall back
        assert (rows.argmax(axis=1) == sums.argmax(axis=1)).mean() > 0.7
    else:
        assert np.allclose(rows, sums, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_does_not_depend_on_its_batch(method, tmp_path):
    data = making.draw()
    files, _ = run(tmp_path, method, data=data)
    solved = stages.load_solved(files[-1], making.WIDTH)
    views = [data["test"][0], data["test"][0][:, ::-1]][: 2 if method == "seca_cov" else 1]
    whole = solved.log_probabilities(np.stack(views))
    alone = np.concatenate(
        [
            solved.log_probabilities(np.stack([v[i : i + 1] for v in views]))
            for i in range(len(whole))
        ]
    )
    assert np.allclose(whole, alone, atol=1e-9)


def test_a_task_keeps_what_is_smaller_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    files, _ = run(tmp_path, "ranpac")
    assert set(record.read_record(files[0].parent / "weights.safetensors")) == {
        "features",
        "labels",
        "folds",
    }
    assert "record: features" in caplog.text
    assert not record.rows_are_smaller((1, 10_000, 12), [12], 2)


def test_no_torch_is_needed():
    module = "clclip.classification.closed_form.stages"
    code = f"import {module}, sys; assert not {{'torch', 'open_clip'}} & set(sys.modules)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_cholesky_in_blocks_solves_what_numpy_solves():
    draws = np.random.default_rng(0)
    rows = draws.standard_normal((700, 600))
    gram, right = rows.T @ rows, draws.standard_normal((600, 3))
    assert np.allclose(
        solver.solve(gram, right, 2.0), np.linalg.solve(gram + 2 * np.eye(600), right)
    )


def test_a_singular_gram_is_solved_too():
    gram = np.zeros((4, 4))
    gram[0, 0] = 1.0
    assert np.allclose(solver.solve(gram, np.eye(4)[:, :1], 1e-300)[0, 0], 1.0)


def test_gcv_is_the_same_from_sums_and_from_rows():
    draws = np.random.default_rng(1)
    hidden, labels = draws.standard_normal((30, 50)), np.arange(30) % 4
    hidden[:, 0] += 3 * labels
    sums, targets = Sums.of(hidden, labels, 4), one_hot(labels, 4)
    found = solver.gcv_penalty(sums.gram, sums.cross, 30, 30)
    assert found == solver.gcv_penalty_of_rows(hidden, targets)
    assert solver.PENALTIES[0] < found < solver.PENALTIES[-1]


def test_scores_of_rows_left_out_are_those_of_a_ridge_that_never_saw_them():
    draws = np.random.default_rng(4)
    for rows, width in ((12, 5), (9, 30)):
        hidden, targets = draws.standard_normal((rows, width)), one_hot(np.arange(rows) % 3, 3)
        found = solver.left_out_scores(hidden, targets, hidden.T @ hidden, 0.3)
        for row in range(rows):
            rest = np.arange(rows) != row
            gram = hidden[rest].T @ hidden[rest] + 0.3 * np.eye(width)
            weights = np.linalg.solve(gram, hidden[rest].T @ targets[rest])
            assert np.allclose(found[row], hidden[row] @ weights, atol=1e-9)


def test_the_published_rule_chooses_on_the_newest_tasks_images(tmp_path):
    files, _ = run(tmp_path, "ranpac", penalty_rule="holdout")
    kept = [record.read_record(file.parent / "weights.safetensors")["penalty"] for file in files]
    assert all(value[0] in solver.PUBLISHED_PENALTIES for value in kept)


def test_sums_add_up_and_subtract():
    draws = np.random.default_rng(2)
    x, y = draws.standard_normal((20, 3)), np.arange(20) % 2
    whole = Sums.of(x, y, 2)
    assert np.allclose((whole - Sums.of(x[:5], y[:5], 2)).gram, Sums.of(x[5:], y[5:], 2).gram)
    parts = joined([Sums.of(x[y == c], 0 * y[y == c], 1) for c in (0, 1)])
    assert all(
        np.allclose(getattr(parts, k), getattr(whole, k)) for k in ("gram", "cross", "counts")
    )
    means = np.stack([x[y == c].mean(axis=0) for c in (0, 1)])
    assert np.allclose(whole.covariance(), (x - means[y]).T @ (x - means[y]) / 18)


def test_texts_that_say_nothing_move_no_mean_and_those_that_do_help():
    draws = np.random.default_rng(5)
    text = draws.standard_normal((30, 4))
    truth = np.tile(text @ draws.standard_normal((4, 10)), (1, 1))
    x = np.repeat(truth, 3, axis=0) + draws.standard_normal((90, 10))
    y = np.repeat(np.arange(30), 3)
    sums = Sums.of(x, y, 30)

    def error(means):
        return np.square(means - truth).mean()

    assert error(refined_means(sums, text)) < 0.75 * error(sums.means)
    other = draws.standard_normal((30, 4))
    assert error(refined_means(sums, other)) < 1.02 * error(sums.means)
    assert np.allclose(refined_means(Sums.of(x[:3], y[:3], 1), text[:1]), x[:3].mean(axis=0))


def test_a_useless_half_gets_no_weight():
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 3, 200)
    good = 3 * one_hot(labels, 3) + draws.standard_normal((200, 3))
    bad = 30 * draws.standard_normal((200, 3))
    balance = fitted_balance(bad, good, labels)
    assert balance.first == 0 < balance.second
    assert np.allclose(joined_logits(bad, good, Balance(0.5, 2.0)), 0.5 * bad + 2 * good)


def test_gda_text_fits_its_balance_in_the_first_task_alone(tmp_path):
    files, _ = run(tmp_path, "gda_text")
    kept = [record.read_record(file.parent / "weights.safetensors") for file in files]
    assert ["balance" in part for part in kept] == [True, False, False]


def test_discriminant_takes_means_from_outside():
    sums = Sums.of(np.random.default_rng(0).standard_normal((9, 2)), np.arange(9) % 3, 3)
    moved = heads.discriminant(sums, sums.means + 1)
    assert np.allclose(
        moved.weights,
        heads.discriminant(sums).weights
        + (moved.weights - heads.discriminant(sums).weights)[:, :1],
    )


def test_records_are_equal_byte_for_byte(tmp_path):
    for method in ("ranpac", "seca_cov"):
        pairs = [run(tmp_path / f"{method}{n}", method)[0] for n in (1, 2)]
        for one, two in zip(*pairs, strict=True):
            names = [file.parent / "weights.safetensors" for file in (one, two)]
            assert names[0].read_bytes() == names[1].read_bytes()


def damaged(base: Path, what: str) -> None:
    """Damage what a prediction reads, in one of several ways."""
    weights = base / "results/x/seed0/task1/weights.safetensors"
    store = base / "resources/features/store/test"
    if what == "no record":
        weights.unlink()
    elif what == "not a record":
        weights.write_bytes(b"x")
    elif what == "another width":
        records.write_record(
            weights,
            {
                "features": np.zeros((1, 2, 5), np.float32),
                "labels": np.zeros(2, np.int32),
                "folds": np.zeros(2, np.int32),
            },
            {},
        )
    elif what == "not finite":
        records.write_record(weights, {"features": np.full((1, 2, 12), np.nan, np.float32)}, {})
    elif what == "no features":
        records.write_record(weights, {"text": np.zeros((2, 12), np.float32)}, {})
    elif what == "no store":
        (store / "done.json").unlink()
    elif what == "cut store":
        (store / "image.npy").write_bytes((store / "image.npy").read_bytes()[:100])
    elif what == "other shape":
        np.save(store / "image.npy", np.zeros((3, 12), np.float32))


@pytest.mark.parametrize(
    "what",
    [
        "no record",
        "not a record",
        "another width",
        "not finite",
        "no features",
        "no store",
        "cut store",
        "other shape",
    ],
)
def test_damaged_files_are_told_in_one_line(what, tmp_path):
    files, _ = run(tmp_path, "ranpac")
    damaged(tmp_path, what)
    with pytest.raises(InputError) as told:
        stages.predict(files[-1], tmp_path / "resources")
    assert "\n" not in str(told.value)


def test_a_class_without_images_is_refused(tmp_path):
    data = making.draw()
    files = making.write_stream(tmp_path, "ridge", GROUPS, data)
    split = files[0].parent / "train.json"
    found = json.loads(split.read_text())
    found["images"] = [image for image in found["images"] if image["label"] != "bee"]
    split.write_text(json.dumps(found))
    with pytest.raises(InputError, match="'bee' has no training image"):
        stages.train(files[0], tmp_path / "resources")


def test_accuracy_rises_with_what_a_method_knows(tmp_path):
    truth = making.draw()["test"][1]
    scores = {}
    for method in ("ncm", "gda"):
        _, table = run(tmp_path / method, method)
        scores[method] = (table.argmax(axis=1) == truth).mean()
    assert all(low <= high for low, high in pairwise([scores["ncm"], scores["gda"]]))
