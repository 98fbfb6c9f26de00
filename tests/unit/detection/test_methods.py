"""The other continual methods on the same detector: equations against hand-made oracles."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from torchvision.ops import box_iou

from clclip.detection.layers.distillation import (
    attention_map,
    attentive_distillation,
    proposal_distillation,
    published_weight,
    unbiased_cross_entropy,
    unbiased_distillation,
)
from clclip.detection.layers.guard import apply_guard, unexplained_detections
from clclip.detection.layers.path import LevelByArea
from clclip.detection.layers.regions import SampledRegions, sample_regions
from clclip.detection.methods.fvit_ior.detector import balance
from clclip.detection.stages.recall import covered, proposals_of, recall_table
from clclip.detection.tools.open_vocabulary import detect_by_text
from clclip.training.seeds import generator
from tests.helpers.detection import (
    DIM,
    batch,
    clclip,
    snapshot,
)
from tests.helpers.detection import step as take_step
from tests.helpers.methods import GROUPS, ROWS, make, second_task, with_old

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


def test_between_published_weights_the_next_larger_task_counts():
    published = {1: 1.0, 2: 1.0, 5: 0.5, 10: 0.1}  # new classes -> weight, as MMA and ABR print it
    for count in range(1, 41):
        point = min((n for n in published if n >= count), default=10)
        assert published_weight(count) == published[point], count


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
    boxes, labels = unexplained_detections(found_boxes(), target, 0.5, 0.5)
    assert labels.tolist() == [0] and boxes.tolist() == [[0.0, 0, 10, 10]]
    nothing = {"boxes": torch.zeros(0, 4), "labels": target["labels"][:0], "ignore": boxes[:0]}
    assert unexplained_detections(found_boxes(), nothing, 0.5, 0.5)[1].tolist() == [0, 1, 2]
    assert unexplained_detections(found_boxes(), nothing, 0.95, 0.5)[1].tolist() == []
    ignore = apply_guard([target], [found_boxes()], "ignore", 0.5, 0.5)[0]
    assert len(ignore["boxes"]) == 1 and len(ignore["ignore"]) == 2
    pseudo = apply_guard([target], [found_boxes()], "pseudo", 0.5, 0.5)[0]
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
        targets = model._guard_targets(batch(classes=2))
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
    labels = torch.cat([t["labels"] for t in model._guard_targets(batch(classes=2))])
    assert (labels == 2).any() and labels.max() == 2  # one past the two current classes
    losses = model.losses(batch(classes=2))
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_guard_of_protected_paths_does_nothing():
    model = clclip(GROUPS, shared="adapters", relegation_guard="ignore")
    model.begin_task()
    assert model.teacher is None


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
    per_path = [proposals for _, _, proposals in proposals_of(model, data)]
    assert len(per_path) == 2
    for hit, target in zip(covered(per_path, data.targets), data.targets, strict=True):
        assert hit.shape == target["labels"].shape
    assert all(hit.all() for hit in covered(per_path, data.targets, overlap=0.0))
    # an object that the second path alone proposes is covered too
    data.targets[0]["boxes"] = per_path[1][0][:1]
    assert covered(per_path, data.targets)[0].all()
    data.targets[0]["boxes"] = torch.zeros(0, 4)
    assert len(covered(per_path, data.targets)[0]) == 0


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


def test_the_level_of_a_box_grows_with_its_area_and_ends_at_the_last():
    rule = LevelByArea(4.0, 3)
    assert rule([torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[0.0, 0, 500, 500]])]).tolist() == [
        0,
        2,
    ]
