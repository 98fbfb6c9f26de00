"""The frozen CLIP's own score, mixed into CL-CLIP's."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from clclip.detection.methods.clclip.inference import path_candidates
from tests.helpers.detection import NAMES, batch, clclip

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
        ((_, (scores,), (columns,)),) = path_candidates(
            model, data, model.paths[1], levels, boxes, [1]
        )
        assert columns.tolist() == [3, 4]
        both.append(scores)
    logit = model.gate.log_slope.exp() * (model.text[:5] @ point - model.gate.middle)
    share = torch.cat([logit, torch.tensor([-2.0])]).softmax(0)[3:5]
    torch.testing.assert_close(both[1], both[0].sqrt() * share.sqrt())
