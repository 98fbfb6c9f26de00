"""The invariants of CL-CLIP on the real module."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clclip.detection.layers import regions
from clclip.detection.layers.regions import select_detections
from clclip.detection.weights import load_chain, save_weights
from tests.helpers.detection import (
    NAMES,
    batch,
    clclip,
    fvit,
    learned,
    old_detections,
    snapshot,
    step,
)

GROUPS = [NAMES[:3], NAMES[3:5]]
LATER = [*GROUPS, NAMES[5:]]


def precision(half: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=half)


@pytest.mark.parametrize("shared", ["drift", "free", "frozen", "adapters"])
def test_frozen_parts_are_bit_equal_after_a_step_and_have_no_gradient(shared):
    model = learned(GROUPS, shared=shared)
    before = snapshot(model)
    step(model, batch(classes=2))
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert any(name.startswith("banks.1.") for name in changed)
    assert not any(name.startswith(("banks.0.", "gate.")) for name in changed)
    path = {"adapters": "paths.1.", "frozen": "nothing", "drift": "paths.0.", "free": "paths.0."}
    assert all(name.startswith(("banks.1.", path[shared])) for name in changed)
    assert any(name.startswith(path[shared]) for name in changed) == (shared != "frozen")
    assert all(value.grad is None for value in model.banks[0].parameters())
    if shared == "adapters":
        assert all(value.grad is None for value in model.paths[0].parameters())


@pytest.mark.parametrize("adapter", ["copy", "residual"])
@pytest.mark.parametrize("shared", ["frozen", "adapters"])
@pytest.mark.parametrize(("fusion", "half"), [(0.0, False), (0.3, False), (0.3, True)])
def test_whole_old_detections_are_bit_identical_after_later_tasks(shared, adapter, fusion, half):
    switches = {"shared": shared, "adapter": adapter, "score_threshold": 0.0, "detections": 1000}
    switches |= {"fusion": fusion, "fusion_score": "share"}
    first = learned([GROUPS[0], GROUPS[1]], **switches)
    with precision(half):
        wanted = old_detections(first, 3)
    assert sum(len(image["scores"]) for image in wanted) > 0
    step(first, batch(classes=2))
    last = clclip(LATER, **switches)
    last.load_state_dict(snapshot(first), strict=False)
    last.begin_task()
    step(last, batch(classes=1))
    with precision(half):
        found = old_detections(last, 3)
    for a, b in zip(wanted, found, strict=True):
        for name in a:
            assert torch.equal(a[name], b[name])


@pytest.mark.parametrize("adapter", ["copy", "residual"])
@pytest.mark.parametrize(("start", "copied"), [("first", 0), ("previous", 1)])
def test_a_later_path_starts_from_the_named_one(start, copied, adapter):
    switches = {"path_start": start, "adapter": adapter}
    before = learned([GROUPS[0], GROUPS[1]], **switches)
    step(before, batch(classes=2))
    model = clclip(LATER, **switches)
    model.load_state_dict(snapshot(before), strict=False)
    model.begin_task()
    own, other = model.paths[2].state_dict(), model.paths[1 - copied].state_dict()
    both = {n: v for n, v in model.paths[copied].state_dict().items() if n in own}
    assert all(torch.equal(own[n], v) for n, v in both.items() if n != "text.gamma")
    assert any(not torch.equal(own[n], v) for n, v in other.items() if n in own)


@pytest.mark.parametrize("adapter", ["copy", "residual"])
@pytest.mark.parametrize("start", ["first", "previous"])
def test_a_path_after_a_merge_starts_from_its_own_line(start, adapter):
    """Groups 1 and 3 are one line; the path of group 2 is another line's, and whole."""
    switches = {"path_start": start, "adapter": adapter, "origins": [1, 2, 1]}
    model = clclip(LATER, **switches)
    assert hasattr(model.paths[1], "pyramid") and (adapter == "copy") == hasattr(
        model.paths[2], "pyramid"
    )
    with torch.no_grad():
        model.paths[1].rpn.head.cls_logits.bias.fill_(7)
        model.paths[0].rpn.head.cls_logits.bias.fill_(3)
    model.begin_task()
    assert (model.paths[2].rpn.head.cls_logits.bias == 3).all()
    whole, levels = batch(classes=1), None
    if adapter == "residual":  # its adapters are the identity: their levels are their line's
        levels = model.paths[2].levels(whole.taps, model._base_levels(whole.taps))
        wanted = model.paths[0].levels(whole.taps)
        assert all(torch.equal(levels[name], value) for name, value in wanted.items())
    step(model, whole)
    assert len(model.eval().predict(whole).proposals) == 3


@pytest.mark.parametrize("shared", ["drift", "adapters"])
def test_an_added_class_leaves_old_scores_given_equal_shared_features(shared):
    switches = {"shared": shared, "score_threshold": 0.0, "detections": 1000, "route": "all"}
    few = learned(GROUPS, **switches)
    more = clclip([GROUPS[0], [*GROUPS[1], NAMES[5]]], **switches)
    state = {n: v for n, v in snapshot(few).items() if v.shape == more.state_dict()[n].shape}
    more.load_state_dict(state, strict=False)
    for a, b in zip(old_detections(few, 3), old_detections(more, 3), strict=True):
        for name in a:
            assert torch.equal(a[name], b[name])


def test_suppression_of_a_class_does_not_depend_on_other_classes():
    """Two boxes at IoU 0.5 up to rounding, alone and beside a far box of another class."""
    boxes = torch.tensor(
        [
            [7.941998481750488, 17.483118057250977, 37.94199752807617, 43.483116149902344],
            [7.941998481750488, 17.483118057250977, 37.94199752807617, 30.483118057250977],
            [0.0, 0.0, 64.0, 63.0],
        ]
    )
    scores, columns = torch.tensor([0.9, 0.8, 0.3]), torch.tensor([2, 2, 3])
    rules = {"threshold": 0.0, "nms": 0.5, "limit": 100}
    together = select_detections(boxes, scores, columns, **rules)
    alone = select_detections(boxes[:2], scores[:2], columns[:2], **rules)
    assert torch.equal(together["boxes"][together["labels"] == 2], alone["boxes"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), extra=st.integers(1, 200))
def test_added_classes_leave_the_detections_of_old_ones_before_the_cut(seed, extra):
    draws = torch.Generator().manual_seed(seed)
    corner = torch.rand(120, 2, generator=draws) * 40
    boxes = torch.cat([corner, corner + 8 + torch.rand(120, 2, generator=draws) * 16], dim=1)
    scores = torch.rand(120, generator=draws)
    columns = torch.randint(5, (120,), generator=draws)
    far = torch.rand(extra, 2, generator=draws) * 600
    rules = {"threshold": 0.0, "nms": 0.5, "limit": 10_000}
    old = select_detections(boxes, scores, columns, **rules)
    more = select_detections(
        torch.cat([boxes, torch.cat([far, far + 30], dim=1)]),
        torch.cat([scores, torch.rand(extra, generator=draws)]),
        torch.cat([columns, torch.full((extra,), 5)]),
        **rules,
    )
    kept = more["labels"] < 5
    for name in old:
        assert torch.equal(more[name][kept], old[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "BATCHED_NMS_LIMIT", 0)
        by_class = select_detections(boxes, scores.round(decimals=1), columns, **rules)
    at_once = select_detections(boxes, scores.round(decimals=1), columns, **rules)
    assert all(torch.equal(by_class[name], at_once[name]) for name in at_once)


def test_permuting_the_classes_of_a_task_permutes_scores_and_nothing_else():
    switches = {"score_threshold": 0.0, "detections": 1000}
    order = [2, 0, 1]
    plain = clclip([NAMES[:3]], **switches)
    permuted = clclip([[NAMES[k] for k in order]], **switches)
    for a, b in zip(
        plain.eval().detect(batch(labelled=False)),
        permuted.eval().detect(batch(labelled=False)),
        strict=True,
    ):
        names_a = [(NAMES[k], s) for k, s in zip(a["labels"], a["scores"].tolist(), strict=True)]
        names_b = [
            (NAMES[order[k]], s) for k, s in zip(b["labels"], b["scores"].tolist(), strict=True)
        ]
        assert [n for n, _ in sorted(names_a)] == [n for n, _ in sorted(names_b)]
        for (_, s), (_, z) in zip(sorted(names_a), sorted(names_b), strict=True):
            assert s == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize("make", [clclip, fvit])
def test_an_image_is_detected_the_same_alone_and_in_a_batch(make):
    model = make([NAMES[:3]], score_threshold=0.0).eval()
    together = model.detect(batch(3, labelled=False))
    alone = model.detect(batch(1, labelled=False))[0]
    torch.testing.assert_close(alone["boxes"], together[0]["boxes"], rtol=0, atol=1e-3)
    torch.testing.assert_close(alone["scores"], together[0]["scores"], rtol=0, atol=1e-5)


def test_the_first_task_is_the_same_however_later_ones_are_protected():
    losses = {}
    for shared in ("adapters", "drift", "free", "frozen"):
        model = clclip([NAMES[:3]], shared=shared, relegation_guard="ignore")
        model.begin_task()
        trained = sorted(model.trained())
        losses[shared] = (trained, model.losses(batch()))
    trained, expected = losses.pop("adapters")
    for names, values in losses.values():
        assert names == trained and values.keys() == expected.keys()
        assert all(torch.equal(values[key], expected[key]) for key in expected)


def test_drift_is_zero_at_the_start_and_grows_with_a_step():
    model = learned(GROUPS, shared="drift", drift="both", drift_weight=1.0)
    assert model.losses(batch(classes=2))["drift"].item() == 0
    step(model, batch(classes=2))
    assert model.losses(batch(classes=2))["drift"].item() > 0


def test_drift_holds_the_features_in_place():
    moved = {}
    for weight in (0.0, 1000.0):
        model = learned(GROUPS, shared="drift", drift_weight=weight)
        before = model.paths[0].levels(batch().taps)
        optimizer = torch.optim.SGD(model.trained().values(), lr=1e-4)
        for _ in range(3):
            optimizer.zero_grad()
            sum(model.losses(batch(classes=2)).values()).backward()
            optimizer.step()
        after = model.paths[0].levels(batch().taps)
        moved[weight] = sum((before[n] - after[n]).pow(2).mean().item() for n in before)
    assert moved[1000.0] < moved[0.0]


@pytest.mark.parametrize(
    "switches",
    [
        {"gate": "softmax"},
        {"gate": "minmax"},
        {"gate": "off", "orthogonality": "off"},
        {"gate": "sigmoid", "refiner": True},
        {"orthogonality": "maps"},
        {"shared": "drift", "drift": "parameter", "orthogonality": "regions"},
        {"experts": False, "shared": "free"},
        {"experts": False},
        {"expert_box": True, "expert_depth": 1},
        {"score_loss": "focal", "fusion": 0.3},
        {"adapter": "residual", "extra_level": True},
        {"scales": (4.0, 2.0, 1.0), "route_cap": 2},
    ],
)
def test_every_switch_trains_and_detects(switches):
    model = learned(GROUPS, **switches)
    before = snapshot(model)
    losses = model.losses(batch(classes=2))
    assert all(torch.isfinite(value) for value in losses.values())
    step(model, batch(classes=2))
    assert any(not torch.equal(v, before[n]) for n, v in model.state_dict().items())
    for image in model.eval().detect(batch(labelled=False)):
        assert torch.isfinite(image["boxes"]).all()
        assert (image["scores"] <= 1).all() and len(image["scores"]) <= 100
        assert (image["scores"].diff() <= 0).all()


def test_residual_adapters_start_as_the_first_tasks_features():
    model = learned(GROUPS, adapter="residual")
    base = model.paths[0].levels(batch().taps)
    adapted = model.paths[1].levels(batch().taps, base)
    assert all(torch.equal(base[name], adapted[name]) for name in base)
    assert not any(name.startswith("paths.1.pyramid") for name in model.state_dict())


def test_residual_adapters_read_what_the_first_tasks_features_dropped():
    model = learned(GROUPS, adapter="residual", extra_level=True)
    path, taps = model.paths[1], batch().taps
    base = model.paths[0].levels(taps)
    for adapter in path.adapters:
        torch.nn.init.normal_(adapter.net[-1].weight)
    adapted = path.levels(taps, base)
    assert [v.shape for v in adapted.values()] == [v.shape for v in base.values()]
    for changed, read_by in ((0, {"0"}), (len(taps) - 1, {str(len(taps) - 1), "pool"})):
        other = [t + torch.randn_like(t) if n == changed else t for n, t in enumerate(taps)]
        moved = path.levels(other, base)  # by the same levels of task 1
        assert {name for name in base if not torch.equal(moved[name], adapted[name])} == read_by


def test_a_batch_without_current_objects_gives_finite_losses():
    data = batch(classes=2)
    for target in data.targets:
        target["boxes"], target["labels"] = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    for model in (learned(GROUPS), fvit(GROUPS)):
        losses = model.losses(data)
        assert all(torch.isfinite(value) for value in losses.values())
        sum(losses.values()).backward()


def test_fvits_column_rules():
    """`all` pushes old columns down as background's rivals; `current` leaves them out."""
    rows = {}
    for columns in ("all", "current"):
        model = fvit(GROUPS, columns=columns)
        model.register_buffer("text", model.text.clone().requires_grad_(True), persistent=False)
        model.losses(batch(classes=2))["class"].backward()
        rows[columns] = model.text.grad.abs().sum(1)
    assert (rows["all"] > 0).all()
    assert (rows["current"][:3] == 0).all() and (rows["current"][3:] > 0).all()


def test_fvit_labels_current_classes_behind_the_previous_ones():
    """Train on one class until it is found: its column must be previous + label."""
    model = fvit([NAMES[:3], NAMES[3:4]])
    data = batch(classes=1)
    optimizer = torch.optim.AdamW(model.trained().values(), lr=3e-3)
    for _ in range(30):
        fresh = batch(classes=1)
        optimizer.zero_grad()
        sum(model.losses(fresh).values()).backward()
        optimizer.step()
    for image in model.eval().detect(data):
        assert image["labels"][0] == 3 and image["scores"][0] > 0.5


@pytest.mark.parametrize("make", [clclip, fvit])
def test_bf16_keeps_box_maths_in_float32_and_stays_close(make):
    model = make([NAMES[:3]])
    exact = model.losses(batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.losses(batch())
        found = model.eval().detect(batch(labelled=False))
    assert rough["box"].dtype == rough["rpn_box"].dtype == torch.float32
    assert all(image["boxes"].dtype == torch.float32 for image in found)
    assert rough["rpn_objectness"].item() == pytest.approx(exact["rpn_objectness"].item(), rel=0.05)
    sum(value.float() for value in rough.values()).backward()


@pytest.mark.parametrize("experts", [True, False])
def test_weights_without_thresholds_are_stored_and_read(tmp_path, experts):
    """One shared expert has no thresholds, nor has a class without boxes; files hold numbers."""
    model, again = (clclip(GROUPS[:1], experts=experts) for _ in range(2))
    path = tmp_path / "weights.safetensors"
    save_weights(path, model.state_dict(), {"digest": "x"})
    load_chain(again, [path])
    assert torch.equal(again.banks[0].threshold, model.banks[0].threshold)
