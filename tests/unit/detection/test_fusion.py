"""The frozen CLIP's own score, mixed into a detector's."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from clclip.detection.layers.region_maps import pool_maps
from clclip.detection.methods.clclip.inference import path_candidates
from tests.helpers.detection import NAMES, batch, clclip, fvit

LATER = [NAMES[:3], NAMES[3:5], NAMES[5:]]


def test_a_fused_share_is_a_softmax_over_own_earlier_and_no_class():
    """By hand: one map (1, K, h, w) of constant cost, so every region's prior is that cost."""
    model = clclip(LATER, fusion=0.5, fusion_score="share", route="all", text_score=False)
    data = batch(1, labelled=False)
    point = functional.normalize(torch.arange(1.0, 9.0), dim=0)
    data = replace(data, dense=point[None, :, None, None].expand(1, 8, 8, 8).contiguous())
    model.eval()
    levels = model.paths[1].levels(data.taps)
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0]])]
    both = []
    for fusion in (0.0, 0.5):
        model.options = model.options.model_copy(update={"fusion": fusion})
        ((_, (scores,), (columns,)),), _ = path_candidates(
            model, data, model.paths[1], levels, boxes, [1]
        )
        assert columns.tolist() == [3, 4]
        both.append(scores)
    logit = model.gate.log_slope.exp() * (model.text[:5] @ point - model.gate.middle)
    share = torch.cat([logit, torch.tensor([-2.0])]).softmax(0)[3:5]
    torch.testing.assert_close(both[1], both[0].sqrt() * share.sqrt())


def fused(**options):
    """The scores that F-ViT gives two regions of one image, by class."""
    model = fvit(LATER[:2], fusion=0.4, score_threshold=0.0, nms=1.0, **options).eval()
    data = batch(1, labelled=False)
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0], [0.0, 16.0, 30.0, 60.0]])]
    levels = model.path.levels(data.taps)
    own = model.classifier(model.path.vectors(model.path.regions(levels, boxes)), model.text)
    return model, data, boxes, own.softmax(-1)[:, :-1]


def test_a_lower_temperature_is_a_softer_softmax():
    """By hand, from the mean of the frozen tokens in each region."""
    model, data, boxes, own = fused(fusion_temperature=5.0)
    pooled = pool_maps(data.dense, boxes, model.stride).mean((2, 3))
    cosines = functional.cosine_similarity(pooled[:, None], model.text[None], dim=2)
    for temperature in (5.0, 75.0):
        model.options = model.options.model_copy(update={"fusion_temperature": temperature})
        expected = own**0.6 * (cosines * temperature).softmax(1) ** 0.4
        torch.testing.assert_close(model._fuse(own, data.dense, boxes), expected)


def test_without_the_option_the_temperature_is_as_published():
    (model, data, boxes, own), (published, *_) = fused(), fused(fusion_temperature=75.0)
    assert torch.equal(model._fuse(own, data.dense, boxes), published._fuse(own, data.dense, boxes))
