"""That proposals and their losses are torchvision's, bit for bit, for less work."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms

from clclip.detection.layers import proposals as module
from clclip.detection.layers.proposals import best_survivors, canvas_list, region_proposals
from clclip.detection.layers.regions import refine
from tests.helpers.detection import NAMES, batch, clclip

CHANNELS, STRIDES = 8, (4.0, 8.0, 16.0)


def network(kept: int = 20, seed: int = 0):
    """Return an RPN whose objectness and deltas spread wide, as those of a trained one do."""
    torch.manual_seed(seed)
    rpn = region_proposals(
        CHANNELS, STRIDES, 4.0, batch=16, post_nms_train=kept, post_nms_test=kept
    ).eval()
    for layer, spread in ((rpn.head.cls_logits, 0.5), (rpn.head.bbox_pred, 0.1)):
        torch.nn.init.normal_(layer.weight, std=spread)
    return rpn


def maps(images: int, side: int, seed: int) -> dict[str, torch.Tensor]:
    """Return levels of a canvas of ``side`` pixels."""
    draws = torch.Generator().manual_seed(seed)
    sides = [int(side // stride) for stride in STRIDES]
    return {
        str(n): torch.randn(images, CHANNELS, s, s, generator=draws) for n, s in enumerate(sides)
    }


def torchvisions(rpn, canvas, levels, targets=None):
    """Return what torchvision's own code does, its anchors included."""
    features = list(levels.values())
    generator = AnchorGenerator(rpn.anchor_generator.sizes, ((0.5, 1.0, 2.0),) * len(STRIDES))
    steps = [[torch.tensor(stride)] * 2 for stride in STRIDES]
    anchors = torch.cat(generator.grid_anchors([list(f.shape[-2:]) for f in features], steps))
    rpn.anchor_generator.forward = lambda images, maps: [anchors] * len(images.image_sizes)
    found = RegionProposalNetwork.forward(rpn, canvas, levels, targets)
    del rpn.anchor_generator.forward
    return found


@pytest.mark.parametrize("side", [32, 64, 160])  # the last one has too many boxes to shift levels
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("objectness", [0.0, 0.6, 0.999999])
@pytest.mark.parametrize("ties", [False, True])
def test_detecting_proposes_what_torchvision_does(side, images, objectness, ties):
    for seed in range(3):
        rpn = network(kept=100 if side == 160 else 20, seed=seed)
        rpn.score_thresh = objectness
        levels = maps(images, side, seed)
        if ties:  # equal objectness: the order of what is equal counts as well
            levels = {name: level.round() for name, level in levels.items()}
        extents = torch.tensor([[side, side], [side // 2, side], [3, 1]][:images])
        canvas = canvas_list(images, (side, side), extents)
        with torch.no_grad():
            found, losses = rpn(canvas, levels)
            wanted, _ = torchvisions(rpn, canvas, levels)
        assert not losses and len(found) == len(wanted) == images
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        if objectness == 0:
            assert len(found[0]) > 10


@pytest.mark.parametrize("side", [64, 160])
@pytest.mark.parametrize("ties", [False, True])
def test_training_proposes_and_loses_what_torchvision_does(side, ties):
    for seed in range(3):
        rpn = network(kept=100 if side == 160 else 20, seed=seed).train()
        levels = maps(2, side, seed)
        if ties:
            levels = {name: level.round() for name, level in levels.items()}
        canvas = canvas_list(2, (side, side), torch.tensor([[side, side], [side // 2, side]]))
        targets = [
            {"boxes": torch.tensor([[2.0, 3.0, 20.0, 30.0], [30.0, 8.0, 50.0, 24.0]])},
            {"boxes": torch.zeros(0, 4)},
        ]
        made = []
        for run in (rpn, partial(torchvisions, rpn)):
            rpn.fg_bg_sampler.generators = [torch.Generator().manual_seed(n) for n in range(2)]
            proposals, losses = run(canvas, levels, targets)
            gradients = torch.autograd.grad(sum(losses.values()), list(rpn.parameters()))
            made.append([*proposals, *losses.values(), *gradients])
        assert list(losses) == ["loss_objectness", "loss_rpn_box_reg"] and len(proposals[0]) > 10
        assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_survivors_are_the_first_of_batched_nms(monkeypatch):
    """However far the best boxes suppress each other, equal scores and no boxes included."""
    torch.manual_seed(0)
    calls = []
    plain = module.nms
    monkeypatch.setattr(module, "nms", lambda *given: calls.append(len(given[0])) or plain(*given))
    for count, spread in ((0, 1.0), (1, 1.0), (400, 300.0), (400, 20.0), (400, 1.0), (1200, 50.0)):
        corner = torch.rand(count, 2) * spread
        boxes = torch.cat([corner, corner + 10 + torch.rand(count, 2)], 1)
        scores, groups = (torch.rand(count) * 20).round() / 20, torch.randint(3, (count,))
        for wanted in (1, 30):
            found = best_survivors(boxes, scores, groups, 0.7, wanted)
            assert torch.equal(found, batched_nms(boxes, scores, groups, 0.7)[:wanted])
    assert 90 in calls and max(calls) == 400  # few are enough where few overlap, else all


def test_survivors_are_found_beyond_a_crowd_of_better_boxes():
    torch.manual_seed(0)
    crowd = torch.rand(300, 4) * 0.1 + torch.tensor([0.0, 0.0, 20.0, 20.0])
    corner = torch.rand(200, 2) * 300
    boxes = torch.cat([crowd, torch.cat([corner, corner + 10], 1)])
    scores, groups = torch.linspace(1, 0, 500), torch.arange(500) % 3
    wanted = batched_nms(boxes, scores, groups, 0.7)[:30]
    assert wanted.max() > 300  # more than the crowd
    assert torch.equal(best_survivors(boxes, scores, groups, 0.7, 30), wanted)


def test_anchors_are_made_once_for_all_paths():
    module._anchors.cache_clear()
    clclip([NAMES[:2], NAMES[2:4], NAMES[4:]]).eval().detect(batch(labelled=False))
    made = module._anchors.cache_info()
    assert (made.misses, made.hits) == (1, 2)


def test_anchors_of_half_precision_are_not_rounded():
    rpn = network()
    levels = list(maps(1, 640, 0).values())
    exact = rpn.anchor_generator.by_level(levels)
    rough = rpn.anchor_generator.by_level([level.bfloat16() for level in levels])
    for one, other in zip(rough, exact, strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)
    assert not torch.equal(exact[0].bfloat16().float(), exact[0])


def test_boxes_are_clipped_to_the_extent_of_each():
    torch.manual_seed(0)
    boxes, deltas = torch.rand(30, 4).cumsum(1) * 30, torch.randn(30, 4) * 3
    extents = torch.tensor([[20, 40], [64, 30]])[torch.arange(30) % 2]
    wanted = [
        refine(box[None], delta[None], tuple(extent))
        for box, delta, extent in zip(boxes, deltas, extents.tolist(), strict=True)
    ]
    assert torch.equal(refine(boxes, deltas, extents), torch.cat(wanted))
