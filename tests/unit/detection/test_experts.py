"""The expert bank, the pairs, the gate and the orthogonality loss against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from clclip.detection.layers.region_maps import RegionMaps, pool_maps
from clclip.detection.methods.clclip.dispatch import DISPATCHES, dispatch_on
from clclip.detection.methods.clclip.experts import ExpertBank
from clclip.detection.methods.clclip.gate import Gate
from clclip.detection.methods.clclip.losses import map_orthogonality, score_loss
from clclip.detection.methods.clclip.orthogonality import orthogonality_loss, region_response_pairs
from clclip.detection.methods.clclip.pairs import routed_pairs, training_pairs
from clclip.training.seeds import generator

NAMES = ["ace", "jack", "king", "nine"]


def plain_score(bank: ExpertBank, k: int, x: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """One pair through expert k, written as the formula of the method page."""
    for conv, bias in zip(bank.convs, bank.conv_bias, strict=True):
        x = functional.relu(functional.conv2d(x[None], conv[k], bias[k], padding=1))[0]
    return (x.flatten() * bank.score[k]).sum() + bank.beta[k] * prior + bank.bias[k]


@pytest.mark.parametrize("name", DISPATCHES)
@settings(max_examples=15, deadline=None)
@given(
    columns=st.lists(st.integers(0, 3), min_size=0, max_size=40),
    depth=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_every_dispatch_equals_the_plain_loop_with_its_gradients(name, columns, depth, seed):
    torch.manual_seed(seed)
    bank = ExpertBank(NAMES, 5, 6, depth, box=True, seed=seed).double()
    with torch.no_grad():
        for value in bank.parameters():
            value.normal_()
    column = torch.tensor(sorted(columns), dtype=torch.int64)
    x = torch.randn(len(columns), 5, 7, 7, dtype=torch.float64, requires_grad=True)
    found = DISPATCHES[name](bank.stacked(), x, column)
    assert found.scores.shape == (len(columns),) and found.deltas.shape == (len(columns), 4)
    assert found.activations.shape == (len(columns), 6, 7, 7)
    if not columns:
        return
    plain = [plain_activation(bank, k, y) for k, y in zip(column, x, strict=True)]
    scores = torch.stack([(y * bank.score[k]).sum() for k, y in zip(column, plain, strict=True)])
    deltas = torch.stack([bank.box[k] @ y for k, y in zip(column, plain, strict=True)])
    wanted = scores, torch.stack(plain).view_as(found.activations), deltas
    used = [value for value in bank.parameters() if value is not bank.beta]
    used = [x, *(value for value in used if value is not bank.bias)]
    gradients = []
    for own, other in zip((found.scores, found.activations, found.deltas), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)
    for parts in ((found.scores, found.activations, found.deltas), wanted):
        total = sum((part * (part + 1)).sum() for part in parts)
        gradients.append(torch.autograd.grad(total, used))
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("name", DISPATCHES)
def test_scores_and_boxes_are_float32_under_autocast(name):
    bank = ExpertBank(NAMES, 5, 6, 2, box=True)
    with torch.no_grad():
        for value in bank.parameters():
            value.normal_()
    column = torch.tensor([0, 0, 1, 3])
    with torch.autocast("cpu", torch.bfloat16):
        found = DISPATCHES[name](bank.stacked(), torch.randn(4, 5, 7, 7), column)
    for k, flat, score, delta in zip(
        column, found.activations.float().flatten(1), found.scores, found.deltas, strict=True
    ):
        torch.testing.assert_close(score, flat @ bank.score[k], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(delta, bank.box[k] @ flat, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DISPATCHES)
def test_pairs_may_come_in_either_layout(name):
    torch.manual_seed(0)
    bank = ExpertBank(NAMES, 5, 6, 2, box=True).double()
    with torch.no_grad():
        for value in bank.parameters():
            value.normal_()
    x, column = torch.randn(5, 5, 7, 7, dtype=torch.float64), torch.tensor([0, 0, 1, 3, 3])
    found = [
        DISPATCHES[name](bank.stacked(), x.contiguous(memory_format=layout), column)
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def plain_activation(bank: ExpertBank, k: int, x: torch.Tensor) -> torch.Tensor:
    """The last activation of one pair, flat."""
    for conv, bias in zip(bank.convs, bank.conv_bias, strict=True):
        x = functional.relu(functional.conv2d(x[None], conv[k], bias[k], padding=1))[0]
    return x.flatten()


def test_the_run_chooses_the_dispatch(monkeypatch):
    assert dispatch_on(torch.device("cpu")) is DISPATCHES["loop"]
    assert dispatch_on(torch.device("cuda")) is DISPATCHES["blocks"]
    monkeypatch.setenv("CLCLIP_SPEED", '{"experts": "grouped"}')
    assert dispatch_on(torch.device("cpu")) is DISPATCHES["grouped"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=0, max_size=12), st.integers(1, 3), st.integers(0, 9))
def test_batched_experts_equal_the_plain_loop(columns, depth, seed):
    torch.manual_seed(seed)
    bank = ExpertBank(NAMES, 5, 6, depth, seed=seed).double()
    with torch.no_grad():
        for value in bank.parameters():
            value.normal_()
    column = torch.tensor(sorted(columns), dtype=torch.int64)
    features = torch.randn(len(columns), 5, 7, 7, dtype=torch.float64)
    prior = torch.randn(len(columns), dtype=torch.float64)
    logits, activations, _ = bank(features, column, prior)
    wanted = [plain_score(bank, k, x, p) for k, x, p in zip(column, features, prior, strict=True)]
    assert logits.shape == (len(columns),) and activations.shape[0] == len(columns)
    if wanted:
        torch.testing.assert_close(logits, torch.stack(wanted), rtol=1e-9, atol=1e-9)


def test_activations_equal_the_plain_loop_in_double_precision():
    bank = ExpertBank(NAMES, 5, 6, 2).double()
    column = torch.tensor([0, 0, 2, 3])
    x = torch.randn(4, 5, 7, 7, dtype=torch.float64)
    _, activations, _ = bank(x, column, torch.zeros(4, dtype=torch.float64))
    for n, k in enumerate(column.tolist()):
        y = x[n : n + 1]
        for conv, bias in zip(bank.convs, bank.conv_bias, strict=True):
            y = functional.relu(functional.conv2d(y, conv[k], bias[k], padding=1))
        torch.testing.assert_close(activations[n : n + 1], y, rtol=0, atol=1e-9)


def test_an_expert_starts_from_its_name_whatever_its_neighbours():
    alone = ExpertBank(["king"], 5, 6, 2, seed=3)
    among = ExpertBank(NAMES, 5, 6, 2, seed=3)
    other = ExpertBank(NAMES, 5, 6, 2, seed=4)
    assert torch.equal(alone.convs[0][0], among.convs[0][2])
    assert torch.equal(alone.score[0], among.score[2])
    assert not torch.equal(among.convs[0][2], other.convs[0][2])


def test_thresholds_keep_the_asked_share_of_a_class_and_no_class_sees_another():
    bank = ExpertBank(["a", "b"], 5, 6, 1)
    first = torch.linspace(0, 1, 101)
    bank.set_thresholds([first, torch.tensor([0.3])], recall=0.9)
    assert bank.threshold[0].item() == pytest.approx(0.1, abs=1e-4)
    assert (first > bank.threshold[0]).float().mean() >= 0.9
    assert bank.threshold[1] < 0.3
    again = ExpertBank(["a"], 5, 6, 1)
    again.set_thresholds([first], recall=0.9)
    assert again.threshold[0] == bank.threshold[0]


def test_thresholds_of_few_regions_keep_new_ones():
    draws = torch.Generator().manual_seed(0)
    kept = []
    for _ in range(40):
        bank = ExpertBank(["a"], 5, 6, 1)
        bank.set_thresholds([torch.randn(40, generator=draws)], recall=0.999)
        kept.append((torch.randn(500, generator=draws) > bank.threshold[0]).float().mean())
    assert torch.stack(kept).mean() > 0.995  # the 0.1 % quantile alone keeps 97 %


def test_thresholds_of_shares_leave_room_below_the_smallest():
    """Shares have a long lower tail: two deviations below the quantile."""
    draws = torch.Generator().manual_seed(0)
    own = -torch.randn(50, generator=draws).abs()
    bank = ExpertBank(["a", "b"], 5, 6, 1)
    bank.set_thresholds([own, torch.zeros(0)], recall=0.999, shares=True)
    expected = torch.quantile(own, 0.001) - 2 * own.std(correction=0)
    assert bank.threshold[0].item() == pytest.approx(expected.item(), abs=1e-4)
    # a class without boxes is asked about every region, and its weights can be stored
    assert -torch.inf < bank.threshold[1] < -1e6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 6), st.integers(1, 7), st.integers(0, 99))
def test_share_is_a_softmax_with_one_more_entry_at_the_mean_cost(regions, classes, seed):
    draws = torch.Generator().manual_seed(seed)
    cost = torch.rand(2, classes, 4, 4, generator=draws) + torch.linspace(0, 1, 16).view(4, 4)
    prior = torch.rand(regions, classes, generator=draws)
    gate = Gate("sigmoid")
    gate.calibrate(cost)
    slope, middle = gate.log_slope.exp().item(), gate.middle.item()
    weights = torch.exp(slope * (prior.double() - middle))
    nothing = math.exp(slope * (cost.mean().item() - middle))
    expected = torch.log(weights / (weights.sum(dim=1, keepdim=True) + nothing))
    torch.testing.assert_close(gate.share(prior).double(), expected, atol=1e-4, rtol=1e-4)
    assert (gate.share(prior) <= 0).all()


def routed(prior, threshold):
    region, column = routed_pairs(prior, threshold, "prior")
    return set(zip(region.tolist(), column.tolist(), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), st.integers(1, 6), st.integers(0, 99))
def test_routing_keeps_a_classs_pairs_when_classes_are_added(regions, classes, seed):
    draws = torch.Generator().manual_seed(seed)
    prior = torch.rand(regions, classes + 2, generator=draws)
    threshold = torch.rand(classes + 2, generator=draws)
    few = set(
        zip(
            *map(
                torch.Tensor.tolist, routed_pairs(prior[:, :classes], threshold[:classes], "prior")
            ),
            strict=True,
        )
    )
    many = set(zip(*map(torch.Tensor.tolist, routed_pairs(prior, threshold, "prior")), strict=True))
    assert {pair for pair in many if pair[1] < classes} == few
    assert few == {
        (r, c) for r in range(regions) for c in range(classes) if prior[r, c] > threshold[c]
    }
    region, column = routed_pairs(prior, threshold, "all")
    assert len(region) == regions * (classes + 2)
    assert column.tolist() == sorted(column.tolist())


@given(st.integers(0, 8), st.integers(1, 6), st.integers(1, 7), st.integers(0, 99))
def test_a_cap_keeps_the_best_of_the_pairs_that_are_routed(regions, classes, cap, seed):
    draws = torch.Generator().manual_seed(seed)
    prior = torch.rand(regions, classes, generator=draws)
    threshold = torch.rand(classes, generator=draws)
    expected = set()
    for r in range(regions):  # a class below its own threshold takes no one's place
        opened = [c for c in range(classes) if prior[r, c] > threshold[c]]
        expected |= {(r, c) for c in sorted(opened, key=lambda c: -prior[r, c])[:cap]}
    region, column = routed_pairs(prior, threshold, "prior", cap)
    assert set(zip(region.tolist(), column.tolist(), strict=True)) == expected


def test_training_pairs_teach_every_positive_and_the_likeliest_negatives():
    labels = torch.tensor([2, -1, -1])
    prior = torch.tensor([[0.9, 0.1, 0.2, 0.3], [0.0, 0.8, 0.1, 0.2], [0.5, 0.4, 0.3, 0.9]])
    image = torch.tensor([0, 0, 1])
    draws = [generator(0), generator(1)]
    region, column, target = training_pairs(labels, image, prior, draws, negatives=1)
    pairs = set(zip(region.tolist(), column.tolist(), strict=True))
    assert (0, 2) in pairs and target[(region == 0) & (column == 2)].item() == 1
    assert target.sum() == 1
    assert {(0, 0), (0, 1), (0, 3)} <= pairs  # four times `negatives` for a positive region
    assert (1, 1) in pairs and (2, 3) in pairs
    assert len(pairs) == len(region) <= 4 + 2 + 2  # at most one at random besides


def test_the_gate_of_a_class_ignores_other_classes():
    cost = torch.rand(2, 5, 4, 4) * 2 - 1
    for kind in ("sigmoid", "minmax", "softmax", "off"):
        gate = Gate(kind, refiner=kind == "sigmoid")
        background = torch.rand(2, 3, 4, 4)
        whole = gate(cost, background)
        assert whole.min() >= 0 and whole.max() <= 1
        assert torch.equal(whole[:, :2], gate(cost[:, :2], background))
        assert torch.equal(whole.flip(1), gate(cost.flip(1), background))


def test_the_gate_rises_with_the_cost_and_is_calibrated_by_the_data():
    gate = Gate("sigmoid")
    cost = torch.randn(4, 3, 8, 8) * 0.1 + 0.4
    gate.calibrate(cost)
    assert gate(cost.new_tensor([[[[0.9]]]])) > gate(cost.new_tensor([[[[0.1]]]]))
    assert gate.middle.item() == pytest.approx((cost.mean() + cost.std()).item(), abs=1e-5)
    with pytest.raises(ValueError, match="background"):
        Gate("softmax")(cost)


def test_pooling_reads_the_box_on_the_canvas():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 2:4, 4:6] = 1.0  # tokens of 8 px: the box (32, 16)-(48, 32)
    inside = pool_maps(maps, [torch.tensor([[34.0, 18.0, 46.0, 30.0]])], 8.0)
    outside = pool_maps(maps, [torch.tensor([[0.0, 40.0, 16.0, 60.0]])], 8.0)
    assert inside.shape == (1, 1, 7, 7)
    assert inside.mean() > 0.9 and outside.max() == 0


def test_orthogonality_is_zero_for_disjoint_and_one_for_equal_responses():
    checker = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    stripes = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert orthogonality_loss(checker[None], checker[None] * 5 + 3).item() == pytest.approx(
        1, abs=1e-4
    )
    assert orthogonality_loss(checker[None], stripes[None]).item() == pytest.approx(0, abs=1e-6)
    assert orthogonality_loss(torch.zeros(0, 2, 2), torch.zeros(0, 2, 2)) == 0
    # raw non-negative responses would have a cosine near one here: the mean must be removed
    high = torch.full((1, 2, 2), 100.0)
    assert orthogonality_loss(high + checker, high + stripes) < 1e-3


def test_response_pairs_join_a_labelled_class_with_the_others_of_its_region():
    response = torch.arange(5.0)[:, None, None].expand(5, 7, 7)
    region = torch.tensor([0, 0, 1, 1, 2])
    target = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
    own, other = region_response_pairs(response, region, target, 3)
    pairs = set(zip(own[:, 0, 0].tolist(), other[:, 0, 0].tolist(), strict=True))
    assert pairs == {(0.0, 1.0), (3.0, 2.0)}  # region 2 is background: no pair


def test_map_orthogonality_moves_the_features_and_not_the_other_class():
    finest = torch.rand(1, 4, 8, 8, requires_grad=True)
    gate = torch.rand(1, 3, 4, 4, requires_grad=True)
    loss, count = map_orthogonality(finest, gate, [torch.tensor([0])], offset=1)
    assert count == gate.shape[1] - 1
    loss.backward()
    assert finest.grad.abs().sum() > 0
    assert gate.grad[0, 1].abs().sum() > 0  # the labelled class: column offset + 0
    assert gate.grad[0, 0].abs().sum() == 0 and gate.grad[0, 2].abs().sum() == 0
    assert map_orthogonality(finest, gate, [torch.zeros(0, dtype=torch.long)], 1) == (0, 0)


def test_score_loss_is_the_sum_over_pairs_per_positive():
    logits, target = torch.tensor([2.0, -1.0, 0.5, 0.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    p = logits.sigmoid()
    wanted = -(p[0].log() + (1 - p[1]).log() + p[2].log() + (1 - p[3]).log()) / 2
    torch.testing.assert_close(score_loss(logits, target, "bce"), wanted)
    assert score_loss(logits, target, "focal") < wanted
    assert torch.isfinite(score_loss(logits[:0], target[:0], "bce"))


def test_regions_see_class_maps_as_roi_align_does():
    draws = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 5, 6, 9, generator=draws, dtype=torch.float64)
    corner = torch.rand(12, 2, generator=draws, dtype=torch.float64) * 60 - 8  # some lie outside
    boxes = torch.cat([corner, corner + torch.rand(12, 2, generator=draws) * 40], dim=1)
    boxes = [boxes[:4], boxes[4:4], boxes[4:]]  # the second image has no region
    wanted = pool_maps(maps, boxes, 8.0)
    seen = RegionMaps(maps, boxes, 8.0)
    torch.testing.assert_close(seen.means(), wanted.mean((2, 3)), rtol=0, atol=1e-12)
    region, column = torch.where(torch.rand(12, 5, generator=draws) > 0.5)
    torch.testing.assert_close(seen[region, column], wanted[region, column], rtol=0, atol=1e-12)
    other = seen.of(maps.flip(1))
    torch.testing.assert_close(other[region, 4 - column], seen[region, column])
