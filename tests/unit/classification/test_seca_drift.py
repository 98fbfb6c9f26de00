"""``clclip feature-drift``: how far later tasks move the features of earlier classes."""

from __future__ import annotations

import json

import pytest
import torch

from clclip.classification.classifier import load_classifier
from clclip.classification.tools.feature_drift import feature_drift, measure
from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.core.task import read_task
from tests.helpers.seca import write_stream
from tests.helpers.seca_streams import GROUPS, run

pytestmark = pytest.mark.usefixtures("random_clip")
FROZEN = {"visual": "frozen", "prompt": "template"}


def test_drift_is_the_mean_of_one_less_the_cosine(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS)
    run(files)
    resources = tmp_path / "resources"
    rows = feature_drift(files[0].parents[1], resources)
    assert [row["task"] for row in rows] == [2, 3]
    assert [len(row["per_task"]) for row in rows] == [1, 2]
    split = json.loads((files[-1].parent / "test.json").read_text())
    owned = [n for n, image in enumerate(split["images"]) if image["label"] in GROUPS[0]]
    features = []
    for file in (files[0], files[2]):
        classifier = load_classifier(file, resources)
        pixels = classifier.pixels_of(split, read_task(file), resources)
        features.append(classifier.features(pixels[owned]))
    expected = 100 * (1 - torch.nn.functional.cosine_similarity(*features))
    assert rows[1]["per_task"][0] == pytest.approx(float(expected.mean()), abs=1e-4)
    assert rows[1]["per_task"][0] > 1e-2  # these tasks do move the tower
    # four test images a task: the mean over images is that of the tasks
    assert rows[1]["drift"] == pytest.approx(sum(rows[1]["per_task"]) / 2, abs=1e-4)


def test_a_frozen_tower_does_not_drift(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS[:2], FROZEN)
    run(files)
    (row,) = feature_drift(files[0].parents[1], tmp_path / "resources")
    assert row["drift"] == pytest.approx(0, abs=1e-4)


def test_a_task_without_test_images_is_told_apart(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS, FROZEN)
    run(files)
    path = files[-1].parent / "test.json"
    split = json.loads(path.read_text())
    images = [image for image in split["images"] if image["label"] not in GROUPS[1]]
    path.write_text(json.dumps(split | {"images": images}))
    rows = feature_drift(files[0].parents[1], tmp_path / "resources")
    assert rows[1]["per_task"][1] is None and rows[1]["per_task"][0] is not None
    assert "-" in measure(files[0].parents[1], tmp_path / "resources").splitlines()[-1]


def test_the_command_prints_and_writes(tmp_path, capsys):
    files = write_stream(tmp_path, "hpeft", GROUPS[:2])
    run(files)
    out, resources = tmp_path / "drift.json", str(tmp_path / "resources")
    folder = str(files[0].parents[1])
    assert not main(["feature-drift", folder, "--out", str(out), "--resources", resources])
    (row,) = json.loads(out.read_text())
    assert f"{row['drift']:.2f}" in capsys.readouterr().out


def test_a_run_of_stored_features_is_refused(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS[:2])
    for file in files:
        file.write_text(json.dumps(read_task(file) | {"method": "ranpac"}))
        (file.parent / "weights.safetensors").touch()
    with pytest.raises(InputError, match="'ranpac', whose features are frozen"):
        feature_drift(files[0].parents[1], tmp_path / "resources")


def test_other_runs_are_refused(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS[:2])
    with pytest.raises(InputError, match="0 trained tasks"):
        feature_drift(files[0].parents[1], tmp_path / "resources")
    for file in files:
        (file.parent / "weights.safetensors").touch()
        file.write_text(json.dumps(json.loads(file.read_text()) | {"kind": "detection"}))
    with pytest.raises(InputError, match="kind 'detection'"):
        feature_drift(files[0].parents[1], tmp_path / "resources")
