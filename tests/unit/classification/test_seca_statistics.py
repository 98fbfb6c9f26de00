"""SECA judged by closed forms over adapted features: what tasks keep, and how it is moved."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clclip.classification import stages
from clclip.classification.classifier import load_classifier
from clclip.classification.closed_form.heads import discriminant
from clclip.classification.closed_form.sums import Sums
from clclip.classification.features.vectors import unit
from clclip.classification.options import CLASSIFIERS
from clclip.classification.seca import statistics
from clclip.core.errors import InputError
from tests.helpers.seca import write_stream
from tests.helpers.seca_streams import GROUPS, run

pytestmark = pytest.mark.usefixtures("random_clip")
CLOSED = {"classifier": "gda"}


def probabilities(files):
    """Return the last task's probabilities (N, K)."""
    found = json.loads((files[-1].parent / "predictions.json").read_text())
    return np.array(found["probabilities"])


def test_a_linear_drift_is_found_and_no_drift_is_none():
    draws = np.random.default_rng(0)
    before = unit(draws.standard_normal((300, 6)))
    after = unit(before + before @ (0.2 * draws.standard_normal((6, 6))) + 0.1)
    drift = statistics.fitted_drift(before[:250], after[:250])
    left = np.linalg.norm(drift(before[250:]) - after[250:], axis=1).mean()
    assert left < 0.2 * np.linalg.norm(before[250:] - after[250:], axis=1).mean()
    none = statistics.fitted_drift(before, before)
    assert np.allclose(none(before), before)


def test_older_features_go_through_every_later_drift():
    a, b = np.eye(3), np.eye(3)[::-1]
    move = {"drift.map": np.roll(a, 1, axis=1) - a, "drift.shift": np.zeros(3)}
    records = [
        {"features": a, "labels": np.arange(3) % 2, "raw": np.zeros((2, 3))},
        {"features": b, "labels": np.zeros(3, int), "raw": np.zeros((1, 3))} | move,
        {"features": b, "labels": np.zeros(3, int), "raw": np.zeros((1, 3))} | move,
    ]
    rows, labels = statistics.memory_rows(records)
    assert np.allclose(rows[:3], np.roll(a, 2, axis=1))  # two tasks came after
    assert np.allclose(rows[3:6], np.roll(b, 1, axis=1)) and np.allclose(rows[6:], b)
    assert labels.tolist() == [0, 1, 0, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_text_half_that_knows_nothing_gets_no_weight_and_one_that_knows_helps(kind):
    draws = np.random.default_rng(1)
    means = unit(draws.standard_normal((4, 8)))
    labels = np.arange(120) % 4
    rows = unit(means[labels] + 0.45 * draws.standard_normal((120, 8)))
    tests = unit(np.repeat(means, 100, axis=0) + 0.45 * draws.standard_normal((400, 8)))
    truth = np.repeat(np.arange(4), 100)

    def right(text, with_text):
        found = statistics.solved(kind, 50, 0, (rows, labels), (text[None], 20.0), with_text)
        return (found.log_probabilities(tests).argmax(axis=1) == truth).mean(), found.balance

    alone, balance = right(means, False)
    assert balance.first == 0
    assert right(means, True)[0] >= alone  # the true means are the best of texts
    assert right(-means, True)[0] >= alone - 0.01


def test_the_stream_is_a_discriminant_of_adapted_features(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS, CLOSED | {"statistics": "kept"})
    records = run(files)
    rows = np.concatenate([r["features"].numpy() for r in records]).astype(float)
    labels = np.concatenate([r["labels"].numpy() + 2 * t for t, r in enumerate(records)])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    fitted = discriminant(Sums.of(rows, labels, 6))
    classifier = load_classifier(files[-1], tmp_path / "resources")
    split = json.loads((files[-1].parent / "test.json").read_text())
    paths = [tmp_path / "resources/data/noise/images" / i["file_name"] for i in split["images"]]
    pixels = classifier.pixels(paths)
    features = classifier.features(pixels[range(len(paths))]).double().numpy()
    expected = torch.softmax(torch.from_numpy(fitted.logits(features)), dim=1).numpy()
    assert np.allclose(probabilities(files), expected, atol=1e-5)
    alone = np.concatenate(
        [classifier.predict_probabilities(pixels[[k]]).numpy() for k in range(len(paths))]
    )
    assert np.allclose(alone, expected, atol=1e-5)  # whatever the batch


def test_adapters_of_the_first_task_stay_and_its_prompts_do_not(tmp_path):
    files = write_stream(tmp_path, "seca", GROUPS, CLOSED | {"adapt": "first"})
    records = run(files)
    kept = [[name for name in r if name.startswith("adapter.")] for r in records]
    assert kept[0] and not kept[1] and not kept[2]
    assert all("drift.map" not in r and "pool" not in r for r in records[1:])
    assert not torch.equal(records[0]["prompt"], records[1]["prompt"])
    sides = [load_classifier(f, tmp_path / "resources").visual for f in files]
    for name, value in sides[0].adapters.named_parameters():
        for other in sides[1:]:
            assert torch.equal(value, dict(other.adapters.named_parameters())[name])


def test_moved_statistics_leave_old_records_alone(tmp_path):
    files = write_stream(tmp_path, "seca", GROUPS[:2], CLOSED)
    records = run(files)
    assert "drift.map" in records[1] and "drift.map" not in records[0]
    kept = write_stream(tmp_path / "kept", "seca", GROUPS[:2], CLOSED | {"statistics": "kept"})
    others = run(kept)
    assert all(torch.equal(others[0][k], records[0][k]) for k in records[0])
    for name in others[1]:  # training is the same: statistics are its end
        assert torch.equal(others[1][name], records[1][name]), name
    ways = [load_classifier(f[-1], tmp_path / "resources").solved.scores for f in (files, kept)]
    assert not np.allclose(ways[0].weights, ways[1].weights)


def test_without_prototypes_in_training_the_stream_is_h_peft(tmp_path):
    switches = {
        "ranpac": {"random_features": 20, "classifier": "ranpac", "visual_loss": "none"},
        "text": {},
    }
    records = [run(write_stream(tmp_path / k, "hpeft", GROUPS[:2], v)) for k, v in switches.items()]
    for name, value in records[1][1].items():
        assert torch.equal(records[0][1][name], value), name


def test_records_without_statistics_are_refused(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS[:2], CLOSED)
    run(files)
    place = files[0].parent / "weights.safetensors"
    record = load_file(place)
    save_file({k: v for k, v in record.items() if k != "features"}, place)
    with pytest.raises(InputError, match="no tensor 'features'"):
        stages.predict(files[-1], tmp_path / "resources")
