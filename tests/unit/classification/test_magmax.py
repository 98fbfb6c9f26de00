"""MagMax: merged task vectors by hand, and a stream that judges by the merged tower."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from clclip.classification import stages
from clclip.classification.classifier import load_classifier
from clclip.classification.seca.merging import merged
from clclip.core.errors import InputError
from tests.helpers.seca import small_clip, write_stream
from tests.helpers.seca_streams import GROUPS, run

pytestmark = pytest.mark.usefixtures("random_clip")


def test_each_weight_takes_its_largest_change():
    start = {"w": torch.tensor([1.0, 1.0, 1.0])}
    tasks = [{"w": torch.tensor([3.0, 0.5, 1.0])}, {"w": torch.tensor([2.0, 2.0, -3.0])}]
    assert merged(start, tasks, "magmax", 1.0)["w"].tolist() == [3.0, 2.0, -3.0]
    assert merged(start, tasks, "magmax")["w"].tolist() == [2.0, 1.5, -1.0]  # half of it
    assert merged(start, tasks, "mean")["w"].tolist() == [2.5, 1.25, -1.0]
    assert torch.equal(merged(start, tasks[:1], "magmax", 1.0)["w"], tasks[0]["w"])


def test_the_tower_that_judges_is_the_merged_one_and_training_goes_on_from_the_last(tmp_path):
    files = write_stream(tmp_path, "magmax", GROUPS[:2], epochs=3)
    records = run(files)
    own = dict(small_clip().visual.named_parameters())
    towers = [{k.removeprefix("tower."): v for k, v in r.items() if "tower." in k} for r in records]
    expected = merged({k: v.data for k, v in own.items()}, towers, "magmax")
    classifier = load_classifier(files[-1], tmp_path / "resources")
    for name, value in classifier.visual.context.tower.visual.named_parameters():
        assert torch.allclose(value, expected[name], atol=1e-6), name
    moved = max(float((towers[0][k] - own[k]).abs().max()) for k in own)
    later = max(float((towers[1][k] - towers[0][k]).abs().max()) for k in own)
    assert moved > 1e-5 and 0 < later < 3 * moved


def test_training_does_not_depend_on_how_towers_are_merged(tmp_path):
    places = [
        write_stream(tmp_path / rule, "magmax", GROUPS[:2], {"merge": rule})
        for rule in ("magmax", "mean", "none")
    ]
    records = [run(files)[-1] for files in places]
    for other in records[1:]:
        assert all(torch.equal(records[0][name], other[name]) for name in records[0])
    answers = {(f[-1].parent / "predictions.json").read_text() for f in places}
    assert len(answers) == 3


def test_a_tower_of_another_shape_is_refused(tmp_path):
    files = write_stream(tmp_path, "magmax", GROUPS[:2])
    run(files)
    place = files[0].parent / "weights.safetensors"
    record = load_file(place)
    record.pop(next(name for name in record if name.startswith("tower.")))
    save_file(record, place, {"classes": json.dumps(GROUPS[0])})
    with pytest.raises(InputError, match="weights that do not fit"):
        stages.predict(files[-1], tmp_path / "resources")
