"""The spread of an image's tokens: its values on every family of towers, and who reads it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from clclip.classification.features.moments import SPREAD_WEIGHT, moments
from clclip.classification.seca.adapters import VisualTower
from clclip.config.experiment import Experiment
from clclip.core.errors import InputError
from clclip.workflow.plan import RunPlan, add_experiment
from tests.helpers.clip import random_clip

SMALL = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
POOLINGS = {
    "class token": {},
    "mean": {"pool_type": "avg"},
    "attention": {"attentional_pool": True, "attn_pooler_queries": 1, "attn_pooler_heads": 2},
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_moments_are_the_feature_and_the_deviation_over_patches(pooling):
    model = random_clip("ViT-B-16", **SMALL, **POOLINGS[pooling]).model
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kept = []
    model.visual.transformer.register_forward_hook(lambda *given: kept.append(given[-1]))
    with torch.no_grad():
        feature = model.visual(images)
        tower = VisualTower(model, 32)
        found = moments(tower, images)
        one_by_one = [tower.trunk.head(kept[0][:, place : place + 1]) for place in range(1, 17)]
    parts = torch.cat(one_by_one, dim=1)  # (B, n, d)
    mean = parts.mean(dim=1, keepdim=True)
    spread = (parts - mean).square().mean(dim=1).sqrt()
    expected = SPREAD_WEIGHT * spread / spread.norm(dim=-1, keepdim=True)
    width = feature.shape[-1]
    torch.testing.assert_close(found[:, :width], functional.normalize(feature, dim=-1))
    torch.testing.assert_close(found[:, width:], expected, atol=1e-5, rtol=1e-4)
    if pooling == "mean":  # of the same tokens
        unit = functional.normalize(mean[:, 0], dim=-1)
        torch.testing.assert_close(found[:, :width], unit, atol=1e-5, rtol=1e-4)


def planned(tmp_path, method, **switches):
    """Return the first task and the described store of an experiment."""
    values = {"kind": "classification", "method": method, "switches": switches, "name": "mine"}
    values["tasks"] = [["red circle"], ["green circle"]]
    run = RunPlan()
    plan = add_experiment(run, Experiment.model_validate(values), [0], tmp_path, "mine.yaml")
    (store,) = run.features.values()
    return plan.tasks[0, 1], store


def test_the_store_is_that_of_moments_where_a_method_reads_them(tmp_path):
    ours, store = planned(tmp_path, "seca_cov")
    assert store["dense"] == "moments" == ours.payload["features"]["dense"] and store["flip"]
    plain, without = planned(tmp_path, "seca_cov", spread=False)
    mirror, read = planned(tmp_path, "ranpac", mirror=True)
    assert without == read and without["dense"] == "image" and plain.features == mirror.features
    assert "spread" not in mirror.payload["switches"]  # as in files of before there was one
    same, _ = planned(tmp_path, "ranpac", mirror=True, spread=True)
    assert same.features == ours.features and same.payload["switches"]["spread"]


@pytest.mark.parametrize("method", ["gda_text", "zeroshot", "rapf", "vis", "seca"])
def test_what_compares_features_with_texts_has_no_spread(method, tmp_path):
    with pytest.raises(InputError, match="'spread' means nothing"):
        planned(tmp_path, method, spread=True)
