"""The other continual methods on the same detector: equations against hand-made oracles."""

from __future__ import annotations

import json
import math

import pytest
import torch
from detection_making import (
    DIM,
    NAMES,
    SIDE,
    SMALL,
    STRIDE,
    WIDTH,
    batch,
    clclip,
    snapshot,
    text_rows,
)
from detection_making import step as take_step
from torch.nn import functional
from torchvision.ops import box_iou

from clclip.clip.tower import TowerFeatures
from clclip.detection.build import DETECTORS
from clclip.detection.dataset import FeatureBatches, LabelledImage
from clclip.detection.distillation import (
    attention_map,
    attentive_distillation,
    proposal_distillation,
    published_weight,
    unbiased_cross_entropy,
    unbiased_distillation,
)
from clclip.detection.export import export
from clclip.detection.guard import claims, guarded
from clclip.detection.inversion import (
    BINS,
    Recipe,
    augmented,
    draw_box,
    drawn_regions,
    invert,
    merged_statistics,
    ratio_histogram,
    token_statistics,
    total_variation,
)
from clclip.detection.inverted import invert_classes, read_statistics, stored_statistics
from clclip.detection.ior import balance, ior_paste
from clclip.detection.memory import Crop, nearest_to_mean, packed, quota, trimmed, unpacked
from clclip.detection.openvocab import detect_by_text
from clclip.detection.pasting import (
    ABR_RULE,
    IOR_RULE,
    PasteRule,
    beta_draw,
    conflicts,
    mixup,
    mosaic,
    place,
    resized,
    sized,
)
from clclip.detection.path import LevelByArea
from clclip.detection.recall import proposal_hits, recall_table
from clclip.detection.regions import SampledRegions, sample_regions
from clclip.detection.rehearsal import PastedBatches
from clclip.detection.replay import abr_paste, choose_boxes, cut
from clclip.detection.switches import METHOD_SWITCHES, DetectionSwitches
from clclip.detection.views import render
from clclip.detection.weights import load_chain, read_weights, save_weights
from clclip.errors import InputError
from clclip.training.seeds import generator

GROUPS = [NAMES[:3], NAMES[3:5]]
ROWS = ["fvit_mma", "fvit_pseudo", "fvit_replay", "fvit_ior"]
CPU = torch.device("cpu")


def make(method, groups, *, seed=0, **switches):
    torch.manual_seed(seed)
    settings = DetectionSwitches(**{**SMALL, **METHOD_SWITCHES[method], **switches})
    text = text_rows([name for group in groups for name in group])
    return DETECTORS[method](WIDTH, STRIDE, settings, groups, text)


def second_task(method, **switches):
    """Return the detector at the start of task 2, after a step of task 1."""
    first = make(method, GROUPS[:1], **switches)
    first.begin_task()
    take_step(first, batch(classes=3))
    model = make(method, GROUPS, **switches)
    model.load_state_dict(snapshot(first))
    model.begin_task()
    return model


def with_old(data, seed=0):
    """Give every image one pasted object of an old class."""
    for n, target in enumerate(data.targets):
        corner = torch.rand(2, generator=generator("old", seed, n)) * 30
        target["old_boxes"] = torch.cat([corner, corner + 24])[None]
        target["old_labels"] = torch.tensor([n % 3])
    return data


# ---- equations ----------------------------------------------------------------------------------


def test_unbiased_cross_entropy_is_the_plain_one_without_old_classes():
    logits = torch.randn(9, 5, generator=generator("logits"), requires_grad=True)
    column = torch.tensor([-1, 0, 1, 2, 3, -1, 2, 0, -1])
    plain = functional.cross_entropy(logits, torch.where(column < 0, 4, column))
    torch.testing.assert_close(unbiased_cross_entropy(logits, column, 0), plain)


@pytest.mark.parametrize("old_label", ["ce", "zero"])
def test_unbiased_cross_entropy_by_hand(old_label):
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 3).double()  # old, new, new, background
    p = [math.exp(v) / sum(math.exp(u) for u in range(4)) for v in range(4)]
    found = unbiased_cross_entropy(logits, torch.tensor([-1, 2, 0]), 1, old_label)
    old = -math.log(p[0]) if old_label == "ce" else 0.0
    wanted = (-math.log(p[3] + p[0]) - math.log(p[2]) + old) / 3
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_background_does_not_set_background_against_old_classes_nor_new_against_new():
    """Its gradient keeps the split of background and old, and pushes new classes by their share."""
    logits = torch.randn(4, 6, generator=generator("g"), requires_grad=True)  # 3 old, 2 new, bg
    unbiased_cross_entropy(logits, torch.full((4,), -1), 3).backward()
    rest, new = [0, 1, 2, 5], [3, 4]
    p = logits.detach().softmax(1)
    for members in (rest, new):
        ratio = logits.grad[:, members] / p[:, members]
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert (logits.grad[:, rest] < 0).all() and (logits.grad[:, new] > 0).all()


def test_distillation_is_nothing_for_a_student_that_equals_its_teacher():
    teacher = torch.randn(7, 4, generator=generator("t"))
    new = torch.full((7, 2), -1e4)
    student = torch.cat([teacher[:, :3], new, teacher[:, 3:]], dim=1).requires_grad_(True)
    loss = unbiased_distillation(student, teacher, 3)
    loss.backward()
    assert abs(loss.item()) < 1e-6 and student.grad.abs().max() < 1e-6
    maps = torch.randn(2, 9), torch.randn(2, 9, 4)
    assert float(proposal_distillation(maps, maps)) == 0
    features = torch.randn(3, 4, 7, 7)
    assert float(attentive_distillation(features, features, 2.0)) == 0


def test_unbiased_distillation_by_hand():
    """One old class, one new, background: a teacher's background may be the student's new class."""
    student, teacher = torch.tensor([[0.3, 1.1, -0.4]]), torch.tensor([[0.8, -0.2]])
    p, q = student.softmax(1)[0], teacher.softmax(1)[0]
    wanted = 0.5 * (q[0] * (q[0] / p[0]).log() + q[1] * (q[1] / (p[1] + p[2])).log())
    assert float(unbiased_distillation(student, teacher, 1)) == pytest.approx(float(wanted), 1e-4)


def test_proposals_are_held_only_where_the_teacher_is_surer():
    before = torch.tensor([[1.0, 0.0, 0.05]]), torch.zeros(1, 3, 4)
    now = torch.tensor([[0.0, 2.0, 0.0]]), torch.ones(1, 3, 4)
    # squared gaps 1, 0, 0.05^2; boxes count for the first anchor alone
    wanted = (1 + 0.05**2) / 3 + 4 / 3
    assert float(proposal_distillation(now, before)) == pytest.approx(wanted)


def test_attention_sums_to_the_number_of_places_and_follows_the_energy():
    features = torch.zeros(1, 2, 7, 7)
    features[0, :, 3, 4] = 2.0
    found = attention_map(features)
    assert float(found.sum()) == pytest.approx(49, rel=1e-5)
    assert int(found.flatten().argmax()) == 3 * 7 + 4
    other = torch.zeros(1, 2, 7, 7)
    wanted = (found[0, 3, 4] * 2 * 4 / 98) + 0.5 * (1 - found).abs().mean()
    assert float(attentive_distillation(other, features, 0.5)) == pytest.approx(float(wanted), 1e-4)


def test_published_weights():
    assert [published_weight(n) for n in (1, 2, 5, 10, 40)] == [1.0, 1.0, 0.5, 0.1, 0.1]


# ---- pseudo-labels and guard --------------------------------------------------------------------


def found_boxes():
    return {
        "boxes": torch.tensor(
            [[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 50, 50], [60, 0, 64, 20], [2, 40, 9, 60]]
        ),
        "scores": torch.tensor([0.9, 0.8, 0.85, 0.7, 0.3]),
        "labels": torch.tensor([0, 1, 1, 2, 2]),
    }


def test_claims_are_sure_new_and_each_object_once():
    target = {
        "boxes": torch.tensor([[31.0, 30, 50, 50]]),
        "labels": torch.tensor([3]),
        "ignore": torch.tensor([[59.0, 0, 64, 20]]),
    }
    boxes, labels = claims(found_boxes(), target, 0.5, 0.5)
    assert labels.tolist() == [0] and boxes.tolist() == [[0.0, 0, 10, 10]]
    nothing = {"boxes": torch.zeros(0, 4), "labels": target["labels"][:0], "ignore": boxes[:0]}
    assert claims(found_boxes(), nothing, 0.5, 0.5)[1].tolist() == [0, 1, 2]
    assert claims(found_boxes(), nothing, 0.95, 0.5)[1].tolist() == []
    ignore = guarded([target], [found_boxes()], "ignore", 0.5, 0.5)[0]
    assert len(ignore["boxes"]) == 1 and len(ignore["ignore"]) == 2
    pseudo = guarded([target], [found_boxes()], "pseudo", 0.5, 0.5)[0]
    assert pseudo["labels"].tolist() == [3, 0] and len(pseudo["ignore"]) == 1


def test_pseudo_labels_never_repeat_a_labelled_object():
    model = second_task("fvit_pseudo", pseudo_threshold=0.0, score_threshold=0.0)
    data = batch(3, classes=2)
    for before, target in zip(data.targets, model.seen_targets(data), strict=True):
        count = len(before["boxes"])
        assert torch.equal(target["boxes"][:count], before["boxes"])
        assert torch.equal(target["labels"][:count], before["labels"] + 3)
        added = target["boxes"][count:]
        assert len(added) and (target["labels"][count:] < 3).all()
        assert (box_iou(added, before["boxes"]) <= 0.5).all()
        assert (box_iou(added, added).fill_diagonal_(0) <= 0.5).all()


@pytest.mark.parametrize("make_one", ["fvit", "clclip"])
def test_guarded_places_are_neither_positive_nor_negative(make_one):
    """Ignored anchors and regions carry no label; without the guard the same places are rest."""
    switches = {"relegation_guard": "ignore", "guard_threshold": 0.0, "score_threshold": 0.0}
    if make_one == "fvit":
        model = second_task("fvit", **switches)
        path = model.path
        targets = model.seen_targets(batch(classes=2))
    else:
        model = clclip(GROUPS, shared="drift", **switches)
        model.begin_task()
        path = model.paths[0]
        targets = model._guarded(batch(classes=2))
    levels = path.levels(batch().taps)
    anchors = path.rpn.anchor_generator(batch().canvas, list(levels.values()))
    labels, _ = path.rpn.assign_targets_to_anchors(anchors, targets)
    plain, _ = path.rpn.assign_targets_to_anchors(anchors, batch(classes=2).targets)
    for n, target in enumerate(targets):
        zones = target["ignore"]
        assert len(zones)
        near = box_iou(anchors[n], zones).amax(1) >= 0.3
        assert not (labels[n][near] == 0).any()
        assert torch.equal(labels[n][~near], plain[n][~near])
        assert (plain[n][near] == 0).any()
    sampled = sample_regions([t["ignore"] for t in targets], targets, batch().generators, 1000, 0.5)
    for boxes, target in zip(sampled.boxes, targets, strict=True):
        assert all(box.tolist() in target["boxes"].tolist() for box in boxes)


def test_taught_claims_are_objects_to_the_shared_path_and_rest_to_the_experts():
    switches = {"relegation_guard": "pseudo", "guard_threshold": 0.0, "score_threshold": 0.0}
    model = clclip(GROUPS, shared="drift", **switches)
    model.begin_task()
    labels = torch.cat([t["labels"] for t in model._guarded(batch(classes=2))])
    assert (labels == 2).any() and labels.max() == 2  # one past the two current classes
    losses = model.losses(batch(classes=2))
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_guard_of_protected_paths_does_nothing(caplog):
    model = clclip(GROUPS, shared="adapters", relegation_guard="ignore")
    model.begin_task()
    assert model.teacher is None and "relegation_guard" in caplog.text


# ---- every row trains ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ROWS)
def test_every_method_learns_two_tasks_and_leaves_its_teacher_alone(method):
    model = second_task(method)
    teacher = snapshot(model.teacher)
    assert not any(name.startswith("teacher") for name in model.state_dict())
    assert model.teacher.text.shape == (3, DIM)
    before = snapshot(model)
    for n in range(2):
        take_step(model, with_old(batch(classes=2, seed=n), seed=n))
    assert any(not torch.equal(v, before[name]) for name, v in model.state_dict().items())
    assert all(torch.equal(v, teacher[name]) for name, v in model.teacher.state_dict().items())
    assert all(p.grad is None for p in model.teacher.parameters())
    for image in model.eval().detect(batch(labelled=False)):
        assert torch.isfinite(image["boxes"]).all() and (image["labels"] < 5).all()


@pytest.mark.parametrize("method", ROWS)
def test_the_first_task_is_plain_fvit(method):
    """Without a past every method is F-ViT, so that all rows share their first task."""
    losses = {}
    for name in ("fvit", method):
        model = make(name, GROUPS[:1])
        model.begin_task()
        losses[name] = model.losses(batch(classes=3))
    assert losses["fvit"].keys() == losses[method].keys()
    for key, value in losses["fvit"].items():
        torch.testing.assert_close(value, losses[method][key])


@pytest.mark.parametrize("method", ROWS)
def test_a_batch_without_any_object_gives_finite_losses(method):
    model = second_task(method)
    data = batch(classes=2)
    for target in data.targets:
        target["boxes"], target["labels"] = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    losses = model.losses(data)
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize("method", ["fvit_replay", "fvit_ior"])
def test_terms_against_an_equal_teacher_vanish(method):
    model = second_task(method)
    losses = model.losses(with_old(batch(classes=2)))
    same = {"attentive"} if method == "fvit_replay" else set()
    same |= {"distil_box"}
    if method == "fvit_ior":
        same |= {"distil_feature", "distil_rpn", "distil_rpn_box", "distil_class"}
    assert same <= losses.keys()
    assert all(abs(losses[name].item()) < 1e-8 for name in same)
    take_step(model, with_old(batch(classes=2)))
    moved = model.losses(with_old(batch(classes=2)))
    assert all(moved[name].item() > 0 for name in same)


def test_ior_pasted_objects_are_no_labels_but_places():
    model = second_task("fvit_ior")
    data = with_old(batch(classes=2))
    targets = model.seen_targets(data)
    for target, plain in zip(targets, data.targets, strict=True):
        assert torch.equal(target["boxes"], plain["boxes"])
        assert torch.equal(target["ignore"], plain["old_boxes"])
    assert all(len(t["ignore"]) == 0 for t in model.region_targets(targets))


@pytest.mark.parametrize("method", ["fvit_replay", "fvit_ior"])
def test_the_guard_claims_no_pasted_object_again(method):
    """The previous model recognises pasted objects; they are known already."""
    model = second_task(method, relegation_guard="ignore", guard_threshold=0.0, score_threshold=0.0)
    data = with_old(batch(classes=2))
    for data_target, target in zip(data.targets, model.seen_targets(data), strict=True):
        pasted = data_target["old_boxes"]
        claimed = target["ignore"][len(pasted) if method == "fvit_ior" else 0 :]
        assert len(claimed) and (box_iou(claimed, pasted) <= 0.5).all()
    if method == "fvit_ior":
        targets = model.seen_targets(data)
        for region, target in zip(model.region_targets(targets), targets, strict=True):
            assert torch.equal(region["ignore"], target["ignore"][1:])


def test_replayed_objects_are_labels():
    model = second_task("fvit_replay")
    for target, n in zip(model.seen_targets(with_old(batch(classes=2))), range(2), strict=True):
        assert target["labels"].tolist()[-1] == n and len(target["boxes"]) == 3


def test_the_balance_is_the_gap_between_overlap_and_score():
    box = torch.tensor([[0.0, 0, 10, 10]])
    half = torch.tensor([[0.0, 0, 10, 5]])
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # p = 1/3 everywhere
    sampled = SampledRegions([box, half], torch.tensor([1, -1]), torch.cat([half, box]), None)
    assert float(balance(sampled, logits, 1)) == pytest.approx(abs(0.5 - 1 / 3))
    none = SampledRegions([box, half], torch.tensor([0, -1]), torch.cat([half, box]), None)
    assert float(balance(none, logits, 1)) == 0


# ---- memory -------------------------------------------------------------------------------------


def test_quotas_shrink_as_classes_come():
    assert [quota(2000, n) for n in (10, 15, 20)] == [200, 134, 100]
    crops = [Crop(torch.zeros(3, 2, 2), name, i) for i, name in enumerate("aababb")]
    assert [(c.name, c.image) for c in trimmed(crops, 2)] == [
        ("a", 0),
        ("a", 1),
        ("b", 2),
        ("b", 4),
    ]


def test_the_nearest_to_the_mean_come_first_whatever_their_length():
    rows = torch.tensor([[1.0, 1.0], [50.0, 0.0], [1.0, 0.2], [0.0, 3.0]])
    assert nearest_to_mean(rows, 2).tolist() == [0, 2]
    assert len(nearest_to_mean(rows, 9)) == 4


def crop(h=8, w=6, name="ace", value=None, seed=0):
    g = generator("crop", seed, h, w)
    pixels = torch.randint(0, 256, (3, h, w), generator=g, dtype=torch.uint8)
    return Crop(pixels if value is None else torch.full_like(pixels, value), name, 7)


def test_memory_is_stored_and_read_and_no_network_loads_it(tmp_path):
    crops = [crop(4, 9, "ace", seed=1), crop(2, 3, "jack", seed=2)]
    tensors, told = packed(crops)
    back = unpacked(tensors, told, "x")
    assert [c.name for c in back] == ["ace", "jack"] and back[0].image == 7
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(crops, back, strict=True))
    model = make("fvit_replay", GROUPS[:1])
    save_weights(tmp_path / "w.safetensors", {**model.state_dict(), **tensors}, {"memory": told})
    load_chain(make("fvit_replay", GROUPS[:1], seed=1), [tmp_path / "w.safetensors"])
    for broken in (told[:-1], "[]", '[{"class": "a"}, {"class": "b"}]'):
        with pytest.raises(InputError, match="damaged memory"):
            unpacked(tensors, broken, "x")
    assert unpacked({}, "[]", "x") == []
    assert unpacked(*packed([]), "x") == []


def test_an_export_holds_no_remembered_picture(tmp_path):
    tensors, told = packed([crop()])
    folder = tmp_path / "run" / "task1"
    model = make("fvit_replay", GROUPS[:1])
    save_weights(
        folder / "weights.safetensors", {**model.state_dict(), **tensors}, {"memory": told}
    )
    keys = "text data clip training switches evaluation".split()
    task = {key: {} for key in keys} | {"kind": "detection", "method": "fvit_replay", "seed": 0}
    (folder / "task.json").write_text(json.dumps(task | {"task": 1, "groups": GROUPS[:1]}))
    export(tmp_path / "run", tmp_path / "out.safetensors")
    kept, _ = read_weights(tmp_path / "out.safetensors")
    assert kept.keys() == model.state_dict().keys()


# ---- pasting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [ABR_RULE, IOR_RULE])
def test_pastes_keep_the_overlap_rule_and_repeat_from_the_seed(rule):
    image = torch.full((3, 60, 80), 100, dtype=torch.uint8)
    boxes = torch.tensor([[5.0, 5, 30, 30], [50, 30, 75, 55]])
    crops = [crop(20, 16, value=200), crop(12, 22, value=0), crop(15, 15, value=30)] * 2
    total = 0
    for n in range(30):
        made = mixup(image, boxes, crops, rule, generator("paste", n))
        again = mixup(image, boxes, crops, rule, generator("paste", n))
        assert torch.equal(made.pixels, again.pixels) and torch.equal(made.boxes, again.boxes)
        known = boxes
        for box in made.boxes:
            x0, y0 = torch.maximum(box[:2], known[:, :2]).T
            x1, y1 = torch.minimum(box[2:], known[:, 2:]).T
            shared = (x1 - x0).clamp(min=0) * (y1 - y0).clamp(min=0)
            own = (box[2] - box[0]) * (box[3] - box[1])
            theirs = (known[:, 2] - known[:, 0]) * (known[:, 3] - known[:, 1])
            assert (shared <= rule.other * theirs + 1e-3).all()
            assert (shared <= rule.own * own + 1e-3).all()
            assert (box >= 0).all() and box[2] <= 80 and box[3] <= 60
            known = torch.cat([known, box[None]])
        changed = (made.pixels != image).any(0)
        inside = torch.zeros(60, 80, dtype=torch.bool)
        for x0, y0, x1, y1 in made.boxes.int().tolist():
            inside[y0:y1, x0:x1] = True
        assert not changed[~inside].any()
        assert len(made.boxes) == len(made.names)
        total += len(made.boxes)
    assert total > 30
    different = [mixup(image, boxes, crops, rule, generator("paste", n)).pixels for n in (0, 1)]
    assert not torch.equal(*different)


def test_nothing_is_pasted_into_an_image_that_one_object_fills():
    image = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    made = mixup(image, torch.tensor([[0.0, 0, 39, 39]]), [crop()], ABR_RULE, generator("x"))
    assert torch.equal(made.pixels, image) and made.names == []


def test_the_blend_is_lambda_of_background(monkeypatch):
    monkeypatch.setattr("clclip.detection.pasting.beta_draw", lambda a, b, draws: 0.25)
    image = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    made = mixup(image, torch.zeros(0, 4), [crop(10, 10, value=200)], ABR_RULE, generator("y"))
    assert sorted(made.pixels.unique().tolist()) == [100, 175]
    monkeypatch.setattr("clclip.detection.pasting.beta_draw", lambda a, b, draws: 0.0)
    pure = mixup(image, torch.zeros(0, 4), [crop(10, 10, value=200)], ABR_RULE, generator("y"))
    assert sorted(pure.pixels.unique().tolist()) == [100, 200]


def test_no_place_is_found_where_none_is_free():
    rule = PasteRule(1, (2, 5), 10, 0.0, 0.0)
    assert place((8, 8), (40, 40), torch.tensor([[0.0, 0, 40, 40]]), rule, generator("z")) is None
    assert conflicts(torch.tensor([0.0, 0, 8, 8]), torch.tensor([[4.0, 4, 9, 9]]), rule)
    assert not conflicts(torch.tensor([0.0, 0, 4, 4]), torch.tensor([[4.0, 4, 9, 9]]), rule)


def test_beta_draws_have_the_mean_of_their_law():
    draws = generator("beta")
    for a, b in ((2, 5), (2, 2)):
        values = [beta_draw(a, b, draws) for _ in range(2000)]
        assert sum(values) / 2000 == pytest.approx(a / (a + b), abs=0.02)


def test_a_mosaic_shows_old_objects_only_around_one_point():
    crops = [crop(20, 20, name, value) for name, value in zip("abcd", (1, 2, 3, 4), strict=True)]
    made = mosaic(64, crops, torch.tensor([114.0] * 3), generator("mosaic"))
    assert made.replaced and made.names == list("abcd") and made.pixels.shape == (3, 64, 64)
    for value, (x0, y0, x1, y1) in zip((1, 2, 3, 4), made.boxes.int().tolist(), strict=True):
        assert (made.pixels[:, y0:y1, x0:x1] == value).all() and x1 - x0 == y1 - y0 == 20
    right, below, both, none = made.boxes
    assert right[0] == none[2] == both[0] and below[1] == none[3] == both[1] == right[3]


def test_sizes_of_crops():
    assert resized(crop(10, 20), 0.5).pixels.shape == (3, 5, 10)
    usual, large = crop(30, 30), crop(90, 90)
    assert sized(usual, 100.0, generator("s")) is usual
    side = sized(large, 100.0, generator("s")).pixels.shape[1]
    assert 40 <= side <= 60


def test_abr_shows_a_quarter_mixed_a_quarter_as_mosaic():
    image = LabelledImage(1, 60, 60, torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0, 4))
    pixels = torch.full((3, 60, 60), 9, dtype=torch.uint8)
    kinds = {"plain": 0, "mixup": 0, "mosaic": 0}
    for n in range(400):
        made = abr_paste(pixels, image, [crop(20, 20)], torch.zeros(3), generator("abr", n))
        kinds["mosaic" if made.replaced else "mixup" if made.names else "plain"] += 1
    assert kinds["plain"] == pytest.approx(200, abs=40)
    assert kinds["mixup"] == pytest.approx(100, abs=35) == kinds["mosaic"]
    assert abr_paste(pixels, image, [], torch.zeros(3), generator("none")).names == []
    assert ior_paste(pixels, image, [], 60, generator("none")).names == []


# ---- batches with pasted objects ----------------------------------------------------------------


class ToyTower:
    """Patches through one fixed matrix: a tower whose gradient reaches the pixels."""

    def __init__(self):
        g = generator("tower")
        self.weight = torch.nn.Parameter(
            torch.randn(WIDTH, 3, 8, 8, generator=g) * 0.1, requires_grad=False
        )

    def with_gradient(self, x):
        taps = functional.conv2d(x, self.weight, stride=8)
        return TowerFeatures(
            (taps, taps.tanh(), taps.relu()), functional.normalize(taps[:, :DIM], dim=1)
        )

    def __call__(self, x):
        with torch.no_grad():
            return self.with_gradient(x)


class ToySource:
    """What ``OnlineFeatures`` offers, without files."""

    size, stride, width, device = int(SIDE), 8, WIDTH, "cpu"
    mean, std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25)

    def __init__(self):
        self.tower = ToyTower()

    def pixels(self, image_id):
        g = generator("pixels", image_id)
        return torch.randint(0, 256, (3, 48, 64), generator=g, dtype=torch.uint8)

    def encode(self, images, views):
        rows = [
            render(i, v, self.size, self.mean, self.std) for i, v in zip(images, views, strict=True)
        ]
        self.seen = torch.stack(rows)
        return self.tower(self.seen)

    def read(self, ids, views):
        return self.encode([self.pixels(i) for i in ids], views)


def labelled(count=6, classes=2):
    images = []
    for n in range(count):
        g = generator("labelled", n)
        corner = torch.rand(2, 2, generator=g) * 20
        boxes = torch.cat([corner, corner + 20], dim=1)
        labels = torch.randint(classes, (2,), generator=g)
        images.append(LabelledImage(n, 64, 48, boxes, labels, torch.zeros(0, 4)))
    return images


def pasted_batches(fixed=False, paste=None):
    crops = [crop(20, 16, "ace", 255), crop(14, 18, "king", 0)]

    def default(pixels, image, draws):
        return abr_paste(pixels, image, crops, torch.zeros(3), draws)

    columns = {name: k for k, name in enumerate(NAMES[:5])}
    return PastedBatches(
        labelled(), ToySource(), (0, 2), "flip", paste or default, columns, fixed=fixed
    )


def test_pasted_batches_repeat_per_image_whatever_the_batch():
    batches = pasted_batches()
    together = batches.training(3, list(range(6)))
    seen = batches.source.seen
    assert sum(len(t["old_boxes"]) for t in together.targets) > 0
    for n in (1, 4):
        alone = batches.training(3, [n])
        assert torch.equal(batches.source.seen[0], seen[n])
        assert torch.equal(alone.targets[0]["old_boxes"], together.targets[n]["old_boxes"])
        assert torch.equal(alone.targets[0]["boxes"], together.targets[n]["boxes"])
    assert {int(k) for t in together.targets for k in t["old_labels"]} <= {0, 2}
    batches.training(4, list(range(6)))
    assert not torch.equal(batches.source.seen, seen)


def test_pasted_boxes_lie_where_their_pixels_lie_and_fixed_ones_stay():
    def paste(pixels, image, draws):
        dark = torch.zeros_like(pixels)
        return mixup(dark, torch.zeros(0, 4), [crop(20, 16, "ace", 255)], ABR_RULE, draws)

    batches = pasted_batches(fixed=True, paste=paste)
    for epoch in range(3):
        made = batches.training(epoch, [0, 1, 2])
        for canvas, target in zip(batches.source.seen, made.targets, strict=True):
            bright = canvas[0] > canvas[0, :48].min() + 0.01
            rows, columns = torch.where(bright[:48])
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            wanted = target["old_boxes"][0].tolist()
            assert [float(v) for v in found] == pytest.approx(wanted, abs=1.01)
    shown = [batches.shown(epoch, 0)[1].boxes for epoch in (0, 5)]
    assert torch.equal(*shown)


def test_a_mosaic_replaces_the_labels():
    batches = pasted_batches()
    kinds = [batches.shown(epoch, n) for epoch in range(8) for n in range(6)]
    replaced = [image for image, pasted in kinds if pasted.replaced]
    assert replaced and all(len(image.boxes) == 0 for image in replaced)
    assert all(image.width == image.height == 56 for image in replaced)
    assert all(len(image.boxes) == 2 for image, pasted in kinds if not pasted.replaced)


def test_chosen_boxes_are_cut_from_their_images():
    model = make("fvit_replay", GROUPS[:1], memory=4)
    source = ToySource()
    images = labelled(6, classes=3)
    batches = FeatureBatches(images, source, (0, 1), "none")
    tensors, told = choose_boxes(model, batches, source, NAMES[:3], 3, CPU, step=4)
    crops = unpacked(tensors, told, "x")
    for name in NAMES[:3]:
        assert sum(c.name == name for c in crops) <= quota(4, 3)
    assert len(crops) > 3
    for one in crops:
        image, label = images[one.image], NAMES.index(one.name)
        own = [
            cut(source.pixels(one.image), b, "", 0).pixels
            for b in image.boxes[image.labels == label]
        ]
        assert any(torch.equal(one.pixels, pixels) for pixels in own)
    few, told = choose_boxes(
        make("fvit_replay", GROUPS[:1], memory_min_side=30), batches, source, NAMES[:3], 3, CPU
    )
    assert unpacked(few, told, "x") == []


# ---- inversion ----------------------------------------------------------------------------------


def test_histograms_count_every_box_once_and_have_no_impossible_ratio():
    g = generator("boxes")
    corner = torch.rand(200, 2, generator=g) * 50
    boxes = torch.cat([corner, corner + 2 + torch.rand(200, 2, generator=g) * 40], dim=1)
    edges, counts = ratio_histogram(boxes)
    assert len(edges) == len(counts) == BINS and int(counts.sum()) == 180
    assert (edges.abs() >= 1).all()
    same = ratio_histogram(torch.tensor([[0.0, 0, 8, 4]]).expand(20, 4))
    assert int(same[1].sum()) == 18
    assert int(ratio_histogram(torch.zeros(0, 4))[1].sum()) == 0


@pytest.mark.parametrize("ratio", [1.0, 3.0, 20.0, -1.0, -7.0, -20.0])
def test_targets_lie_inside_the_canvas(ratio):
    edges, counts = torch.full((BINS,), ratio), torch.ones(BINS)
    draws = generator("target", int(ratio))
    for _ in range(50):
        x0, y0, x1, y1 = draw_box(edges, counts, 64, draws).tolist()
        assert min(x0, y0) >= -1e-3 and max(x1, y1) <= 64 + 1e-3
        w, h = x1 - x0, y1 - y0
        assert 0.6 * 64 - 1e-3 <= max(w, h) <= 0.8 * 64 + 1e-3
        wide = w / h if ratio > 0 else h / w
        assert wide == pytest.approx(abs(ratio), rel=1e-3)


def test_merged_statistics_equal_a_single_pass():
    taps = [torch.randn(6, 5, 4, 4, generator=generator("taps", k)) + k for k in range(3)]
    whole = token_statistics(taps)
    parts = [token_statistics([t[a:b] for t in taps]) for a, b in ((0, 1), (1, 4), (4, 6))]
    merged = merged_statistics(parts)
    assert merged.count == whole.count == 96
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.variance, whole.variance)


def test_total_variation_by_hand():
    flat = torch.full((1, 3, 4, 4), 0.3)
    assert float(total_variation(flat)) == 0
    stripes = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, 3, 4, 4)
    assert float(total_variation(stripes)) == pytest.approx(3.0)  # all but the vertical one


def test_augmented_boxes_follow_the_pixels():
    for n in range(10):
        images = torch.zeros(1, 3, 64, 64)
        images[..., 20:40, 24:36] = 1.0
        box = torch.tensor([[24.0, 20, 36, 40]])
        shown, moved = augmented(images, box, generator("augment", n))
        rows, columns = torch.where(shown[0, 0] > 0.5)
        x0, y0, x1, y1 = moved[0].tolist()
        if len(rows):  # not erased
            assert columns.min() >= x0 and columns.max() < x1
            assert rows.min() >= y0 and rows.max() < y1
    edge = torch.tensor([[0.0, 0, 1.5, 30]])
    for n in range(10):
        _, moved = augmented(torch.zeros(1, 3, 64, 64), edge, generator("thin", n))
        assert (moved[:, 2:] - moved[:, :2] >= 1).all() and (moved >= 0).all() and moved.max() <= 64


def test_regions_around_a_target_are_either_near_or_far():
    boxes = torch.tensor([[10.0, 10, 50, 30]])
    (regions,) = drawn_regions(boxes, 64, 30, generator("regions"))
    overlap = box_iou(regions, boxes)[:, 0]
    assert float(overlap[0]) == pytest.approx(1) and (overlap[:31] >= 0.5).all()
    assert (overlap[31:] < 0.3).all() and len(regions) > 40


def test_inversion_moves_pixels_and_no_parameter():
    model = make("fvit_ior", GROUPS[:1]).requires_grad_(False)
    source = ToySource()
    before, weight = snapshot(model), source.tower.weight.clone()
    boxes = torch.tensor([[8.0, 8, 50, 40], [10, 4, 40, 52]])
    statistics = token_statistics(source.tower(torch.randn(4, 3, 64, 64)).taps)

    def run(steps):
        recipe = Recipe(steps=steps, size=64)
        columns = torch.tensor([0, 2])
        encode = lambda x: source.tower.with_gradient(x).taps  # noqa: E731
        draws = generator("invert")
        mean, std = source.mean, source.std
        return invert(model, encode, mean, std, boxes, columns, statistics, recipe, draws)

    first, loss = run(1)
    images, later = run(25)
    assert images.shape == (2, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    assert not torch.equal(first, images) and later < loss
    assert torch.equal(run(25)[0], images)  # from the seed alone
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(source.tower.weight, weight) and source.tower.weight.grad is None


def test_inverted_objects_of_a_task_from_stored_statistics(tmp_path):
    source, images = ToySource(), labelled(6, classes=3)
    stored = stored_statistics(images, 3, source, 32, (0, 1))
    assert all(value.dtype != torch.uint8 for value in stored.values())  # no picture among them
    first = make("fvit_ior", GROUPS[:1])
    path = tmp_path / "weights.safetensors"
    save_weights(path, {**first.state_dict(), **stored}, {"memory": "[]"})
    statistics, edges, counts = read_statistics([path])
    assert edges.shape == counts.shape == (3, BINS) and statistics.mean.shape == (3, WIDTH)
    model = make("fvit_ior", GROUPS, invert_objects=2, invert_steps=2, invert_size=32)
    load_chain(model, [path])
    model.begin_task()
    made = invert_classes(model.teacher, NAMES[:3], NAMES[:5], [path], source, (0, 2), CPU)
    assert sorted(c.name for c in made) == sorted(NAMES[:3] * 2)
    assert all(c.image is None and max(c.pixels.shape[1:]) <= 32 for c in made)
    again = invert_classes(model.teacher, NAMES[:3], NAMES[:5], [path], source, (0, 2), CPU)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(made, again, strict=True))
    with pytest.raises(InputError, match="invert_size"):
        stored_statistics(images, 3, source, 33, (0, 1))
    save_weights(path, first.state_dict(), {})
    with pytest.raises(InputError, match="made by fvit_ior"):
        read_statistics([path])


# ---- recall and open vocabulary -----------------------------------------------------------------


def test_recall_counts_covered_objects_by_group():
    hits = [torch.tensor([True, False]), torch.tensor([True, True, False])]
    labels = [torch.tensor([0, 3]), torch.tensor([1, 4, 3])]
    table = recall_table(hits, labels, GROUPS)
    assert table["P"] == 100 and table["C"] == pytest.approx(100 / 3) and table["A"] == 60
    assert table["per_class"]["king"] is None
    assert table["per_class"]["nine"] == 0 and table["per_class"]["queen"] == 100


@pytest.mark.parametrize("adapter", ["copy", "residual"])
def test_proposals_of_all_paths_count_for_recall(adapter):
    model = clclip(GROUPS, shared="adapters", adapter=adapter).eval()
    data = batch(3, classes=2)
    for hit, target in zip(proposal_hits(model, data), data.targets, strict=True):
        assert hit.shape == target["labels"].shape
    everything = proposal_hits(model, data, overlap=0.0)
    assert all(hit.all() for hit in everything)
    data.targets[0]["boxes"] = torch.zeros(0, 4)
    assert len(proposal_hits(model, data)[0]) == 0


@pytest.mark.parametrize("kind", ["fvit", "clclip"])
def test_classes_that_nobody_taught_are_found_by_their_text(kind):
    """Plant a text direction in the dense tokens under a box: its class wins there."""
    model = make("fvit", GROUPS[:1], score_threshold=0.0) if kind == "fvit" else clclip(GROUPS[:1])
    data = batch(1, labelled=False)
    text = torch.eye(DIM)
    data.dense[:] = text[5].view(1, DIM, 1, 1)
    found = detect_by_text(model.eval(), data, text[4:6], text[:2])
    assert (found[0]["labels"][:3] == 1).all() and found[0]["scores"][0] > 0.9
    assert (found[0]["labels"] < 2).all()


def test_levels_of_pasted_boxes_follow_the_pooler():
    rule = LevelByArea(4.0, 3)
    assert rule([torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[0.0, 0, 500, 500]])]).tolist() == [
        0,
        2,
    ]
