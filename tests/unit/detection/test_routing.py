"""Which pairs CL-CLIP scores at inference, and that nothing later has a say in it."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from clclip.detection.layers.path import SharedPath
from clclip.detection.methods.clclip import inference as candidates
from clclip.detection.options.clclip import ClClipOptions
from clclip.detection.stages.probe import ProposalOverlaps
from clclip.detection.stages.recall import covered, recall_table
from clclip.evaluation.causes import RESTING
from clclip.evaluation.diagnosis import read_proposals
from tests.helpers.detection import (
    NAMES,
    batch,
    clclip,
    learned,
    old_detections,
    snapshot,
    truth_of,
)

GROUPS = [NAMES[:3], NAMES[3:5]]
LATER = [*GROUPS, NAMES[5:]]
EVERYTHING = {"score_threshold": 0.0, "detections": 10_000, "nms": 1.0}
BY_TEXT = {"route": "text", "route_probability": 0.5} | EVERYTHING


def unsure(model):
    """Return the model with text classifiers that find every class about equally likely."""
    for path in model.paths:
        path.text.classifier.log_scale.data.zero_()
    return model


@pytest.mark.parametrize("route", ["share", "prior"])
@pytest.mark.parametrize("shared", ["drift", "adapters"])
def test_routing_of_old_classes_is_the_same_with_more_tasks(shared, route):
    """Thresholds that let some pairs pass and keep some out, on the real module."""
    switches = {"shared": shared, "route": route}
    few, more = (clclip(groups, **switches).eval() for groups in (GROUPS, LATER))
    for model in (few, more):
        model.gate.calibrate(model.gates(batch().dense, model.classes_of(0))[0])
    proposals = batch().targets
    boxes = [target["boxes"] + shift for target, shift in zip(proposals, (0, 8), strict=False)]
    for task in range(len(GROUPS)):
        _, prior = few.pathways(batch().dense, few.classes_of(task), boxes)
        middle = few.routing(prior).median(dim=0).values
        for model in (few, more):
            model.banks[task].threshold.copy_(middle)
        one, other = (candidates.route(model, batch(), task, boxes) for model in (few, more))
        assert 0 < len(one.region) < prior.numel()
        assert torch.equal(one.region, other.region) and torch.equal(one.column, other.column)
        assert torch.equal(one.prior, other.prior)  # experts are told the prior, not the share


@pytest.mark.parametrize("shared", ["drift", "adapters"])
def test_the_text_drops_pairs_that_it_rules_out_and_changes_no_score_of_the_others(shared):
    switches = {"shared": shared, "route": "share"} | EVERYTHING
    model = unsure(learned(GROUPS, **switches))
    found = model.detect(batch(labelled=False))
    half = 0.5
    kept = {}
    for probability in (1e-9, half, 0.999):
        routing = {"route": "text", "route_probability": probability}
        model.options = model.options.model_copy(update=routing)
        kept[probability] = model.detect(batch(labelled=False))
    counts = {p: sum(len(image["scores"]) for image in images) for p, images in kept.items()}
    assert counts[0.999] < counts[half] < counts[1e-9] == sum(len(i["scores"]) for i in found)
    for a, b in zip(found, kept[half], strict=True):
        rows = [
            torch.where((a["boxes"] == box).all(1) & (a["labels"] == label))[0]
            for box, label in zip(b["boxes"], b["labels"], strict=True)
        ]
        assert all(len(row) for row in rows)
        same = torch.stack([a["scores"][row[0]] for row in rows])
        torch.testing.assert_close(b["scores"], same, atol=1e-5, rtol=1e-5)


def test_later_tasks_change_nothing_of_what_the_text_lets_pass():
    switches = {"shared": "adapters"} | BY_TEXT
    few = unsure(learned(GROUPS, **switches))
    wanted = old_detections(few, 5)
    more = clclip(LATER, **switches)
    more.load_state_dict(snapshot(few), strict=False)
    assert sum(len(image["scores"]) for image in wanted) > 0
    for a, b in zip(wanted, old_detections(more, 5), strict=True):
        for name in a:
            assert torch.equal(a[name], b[name])


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("images", "objectness"), [(1, 0.0), (3, 0.0), (1, 0.5), (3, 0.5)])
def test_ten_more_tasks_of_one_class_change_nothing_of_the_first_ten(images, objectness, half):
    """Every third path rests on all images, the others look at some regions."""
    switches = BY_TEXT | {"objectness": objectness}
    groups = [[f"class {k}"] for k in range(20)]
    few = unsure(clclip(groups[:10], **switches)).eval()
    for task, bank in enumerate(few.banks):
        boxes = [torch.tensor([[0.0, 0.0, 20 + 4 * n, 40.0]]) for n in range(3)]
        _, prior = few.pathways(batch(3).dense, few.classes_of(task), boxes)
        middle = few.routing(prior).median(dim=0).values
        bank.threshold.copy_(middle if task % 3 else torch.full_like(middle, 1e9))
    more = unsure(clclip(groups, **switches))
    more.load_state_dict(snapshot(few), strict=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        wanted, found = (old_detections(model, 10, images) for model in (few, more))
    assert all(0 < len(set(image["labels"].tolist())) < 10 for image in wanted)
    for a, b in zip(wanted, found, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_scored_of_an_image_does_not_depend_on_the_others_of_its_batch():
    model = unsure(learned(LATER, **BY_TEXT)).eval()
    together = model.detect(batch(3, labelled=False))
    alone = model.detect(batch(1, labelled=False))[0]
    assert len(alone["labels"]) > 0
    for a, b in zip(_by_place(alone), _by_place(together[0]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def _by_place(found):
    """Return boxes, scores and labels in an order that rounding of scores leaves as it is."""
    order = sorted(
        range(len(found["labels"])),
        key=lambda n: (int(found["labels"][n]), [round(v, 1) for v in found["boxes"][n].tolist()]),
    )
    return [found[name][order] for name in ("boxes", "scores", "labels")]


def test_where_texts_tell_nothing_apart_every_pair_passes():
    """However many classes share the probability."""
    model = learned(GROUPS, **BY_TEXT | {"route_probability": 0.9}).eval()
    model.text.copy_(model.text[:1].expand_as(model.text))
    for path in model.paths:
        path.text.classifier.background.data.copy_(model.text[0])
    found = model.detect(batch(labelled=False))
    model.options = model.options.model_copy(update={"route": "share"})
    for a, b in zip(found, model.detect(batch(labelled=False)), strict=True):
        assert len(a["scores"]) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_batch_on_which_every_path_rests_still_tells_what_was_proposed():
    model = learned(GROUPS, **BY_TEXT).eval()
    data = batch(3, classes=5)
    before = model.predict(data).proposals
    for bank in model.banks:
        bank.threshold.fill_(1e9)
    resting = model.predict(data)
    assert all(len(image["scores"]) == len(image["boxes"]) == 0 for image in resting.detections)
    for one, other in zip(before, resting.proposals, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    labels = [target["labels"] for target in data.targets]
    hits = [covered(proposed, data.targets) for proposed in (before, resting.proposals)]
    tables = [recall_table(own, labels, GROUPS) for own in hits]
    assert tables[0] == tables[1] and tables[0]["A"] is not None


def test_routing_by_text_needs_a_text_score():
    with pytest.raises(ValidationError, match="route text without a text score"):
        ClClipOptions(route="text", text_score=False)


def test_one_path_sees_the_same_regions_whatever_the_number_of_tasks(monkeypatch):
    """A product's rounding depends on how many rows it has, so all are asked for from task 1 on."""
    seen = []
    for groups in ([NAMES[:3]], GROUPS):
        model = clclip(groups, shared="frozen").eval()
        for bank in model.banks:
            bank.threshold.fill_(1e9)  # nothing is routed
        monkeypatch.setattr(
            model.paths[0],
            "regions",
            lambda levels, boxes, path=model.paths[0]: (
                seen.append([len(own) for own in boxes]) or SharedPath.regions(path, levels, boxes)
            ),
        )
        model.detect(batch(labelled=False))
    assert seen[0] == seen[1] and sum(seen[0]) > 0


@pytest.mark.parametrize("route", ["share", "prior"])
def test_route_all_equals_a_route_that_lets_everything_pass(route):
    switches = {"score_threshold": 0.0, "detections": 1000}
    everything = clclip([NAMES[:3]], route="all", **switches)
    passing = clclip([NAMES[:3]], route=route, **switches)  # untrained: no thresholds
    for a, b in zip(
        everything.detect(batch(labelled=False)), passing.detect(batch(labelled=False)), strict=True
    ):
        assert torch.equal(a["scores"], b["scores"]) and torch.equal(a["boxes"], b["boxes"])


def test_proposals_of_little_objectness_are_not_looked_at_and_training_sees_them_all():
    path = clclip(GROUPS).paths[0]
    levels = path.levels(batch(1, labelled=False).taps)
    every = torch.cat([level.flatten() for level in path.rpn.head(list(levels.values()))[0]])
    some = float(every.detach().sigmoid().topk(10).values[-1])
    losses, proposed, detected = {}, {}, {}
    for objectness in (0.0, some, 0.999):
        model = clclip(GROUPS, **BY_TEXT | {"objectness": objectness})
        model.begin_task()
        losses[objectness] = model.losses(batch(classes=2))
        found = model.eval().predict(batch(labelled=False))
        again = model.losses(batch(classes=2))  # nothing of detecting is left behind
        assert all(torch.equal(again[name], value) for name, value in losses[objectness].items())
        proposed[objectness], detected[objectness] = found.proposals, found.detections
    for other in (some, 0.999):
        assert all(torch.equal(losses[0.0][name], losses[other][name]) for name in losses[0.0])
    for few, all_of_them in zip(proposed[some][0], proposed[0.0][0], strict=True):
        assert torch.equal(few, all_of_them[: len(few)])  # by falling objectness
    assert 0 < len(proposed[some][0][0]) <= 10 < len(proposed[0.0][0][0])
    assert not any(len(boxes) for own in proposed[0.999] for boxes in own)
    assert not any(len(image["scores"]) for image in detected[0.999])


def test_what_resting_paths_propose_is_nothing_in_recall_and_overlaps(tmp_path):
    model = learned(GROUPS, objectness=0.999).eval()
    data = batch(3, classes=5)
    proposed = model.predict(data).proposals
    labels = [target["labels"] for target in data.targets]
    assert recall_table(covered(proposed, data.targets), labels, GROUPS)["A"] == 0
    overlaps = ProposalOverlaps(2, {"groups": GROUPS}, truth_of(data))
    overlaps.match(proposed, [100, 101, 102], [2.0] * 3)
    assert len(overlaps.best) == 6 and set(overlaps.best.values()) == {0.0}
    assert set(overlaps.resting) == set(overlaps.best)
    overlaps.write(tmp_path / "proposals.json")
    assert set(read_proposals(tmp_path / "proposals.json").values()) == {RESTING}


@pytest.mark.parametrize("half", [False, True])
def test_a_pathway_is_the_gated_features_of_its_region(half):
    torch.manual_seed(0)
    model = clclip([NAMES[:3]])
    region = torch.tensor([2, 0, 2, 1])
    features = torch.randn(3, 8, 7, 7, dtype=torch.bfloat16 if half else torch.float32)
    gate = torch.rand(4, 7, 7)
    wanted = features[region].float() * (model.options.gate_floor + gate[:, None])
    read = features.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = model.decouple(read, gate, region)
        (back,) = torch.autograd.grad(found.sum(), read)
        with torch.no_grad():
            again = model.decouple(features, gate, region)
    assert found.dtype == features.dtype and torch.equal(found, again)
    assert found.is_contiguous(memory_format=torch.channels_last) == half
    torch.testing.assert_close(found.float(), wanted, rtol=0.01 if half else 0, atol=0)
    told = torch.zeros(3, 7, 7).index_add(0, region, model.options.gate_floor + gate)
    torch.testing.assert_close(back[:, 0].float(), told, rtol=0.02 if half else 1e-5, atol=0)
