"""Later paths that rest on images on which the first path sees none of their classes."""

from __future__ import annotations

import pytest
import torch

from clclip.detection.methods.clclip import fit_rest as fitting
from clclip.detection.methods.clclip.rest import LEAST_IMAGES, Rest, best_of_images, objects_in
from tests.helpers.detection import NAMES, batch, clclip, drowsy, learned, snapshot, step

GROUPS = [NAMES[:2], [NAMES[2]], [NAMES[3]]]
OPTIONS = {"rest": 0.1, "route": "all", "score_threshold": 0.0, "detections": 1000, "nms": 1.0}


def resting(groups=GROUPS, **options):
    """A detector after a step a task, whose later paths rest on two images of four."""
    model = learned(groups, **OPTIONS | options)
    return drowsy(model, batch(4, classes=1))


def at_rest(prediction):
    """Return path -> the images for which it proposes nothing."""
    return [{n for n, boxes in enumerate(own) if not len(boxes)} for own in prediction.proposals]


@pytest.mark.parametrize("adapter", ["copy", "residual"])
def test_a_path_finds_on_an_image_what_it_finds_without_the_others_or_nothing(adapter):
    model = resting(adapter=adapter)
    data = batch(4, labelled=False)
    found = model.predict(data)
    resting_on = at_rest(found)
    assert not resting_on[0] and [len(images) for images in resting_on[1:]] == [2, 2]
    rests, model.rests = model.rests, torch.nn.ModuleDict()
    full = model.predict(data)
    model.rests = rests
    assert not any(at_rest(full))
    for n, (few, whole) in enumerate(zip(found.detections, full.detections, strict=True)):
        gone = {path + 1 for path in (1, 2) if n in resting_on[path]}
        assert set(few["labels"].tolist()) == {0, 1, 2, 3} - gone
        left = torch.tensor([int(label) not in gone for label in whole["labels"]])
        assert torch.equal(few["labels"].sort().values, whole["labels"][left].sort().values)
        torch.testing.assert_close(few["scores"], whole["scores"][left])


@pytest.mark.parametrize("adapter", ["copy", "residual"])
def test_later_tasks_change_no_bit_of_what_resting_paths_find(adapter):
    few = resting(GROUPS[:2], adapter=adapter)
    more = clclip(GROUPS, **OPTIONS, adapter=adapter)
    more.load_state_dict(snapshot(few), strict=False)
    more.begin_task()
    step(more, batch(4, classes=1))
    data = batch(4, labelled=False)
    wanted, found = few.predict(data), more.eval().predict(data)
    assert at_rest(wanted)[1] and at_rest(wanted) == at_rest(found)[:2]
    for a, b in zip(wanted.detections, found.detections, strict=True):
        old = b["labels"] < 3
        assert all(torch.equal(value, b[name][old]) for name, value in a.items())


def test_where_every_path_rests_the_first_task_is_all_that_is_found():
    model = resting()
    for rest in model.rests.values():
        rest.threshold.fill_(2.0)
    found = model.predict(batch(4, labelled=False))
    assert at_rest(found)[1:] == [{0, 1, 2, 3}] * 2
    assert all(set(image["labels"].tolist()) == {0, 1} for image in found.detections)
    model.paths[0].rpn.score_thresh = 2.0  # nothing is looked at, so nothing is seen
    silent = clclip(GROUPS, **OPTIONS, objectness=0.999).eval()
    silent.load_state_dict(snapshot(model))
    nothing = silent.predict(batch(4, labelled=False))
    assert at_rest(nothing) == [{0, 1, 2, 3}] * 3
    assert not any(len(image["labels"]) for image in nothing.detections)


@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_an_image_of_which_the_first_path_sees_nothing_is_judged_alone_as_beside_others(threshold):
    model = resting(GROUPS[:2])
    model.rests["1"].threshold.fill_(threshold)
    model.paths[0].rpn.head.cls_logits.bias.data.fill_(-50.0)
    model.paths[0].rpn.score_thresh = 0.5
    model.rests["1"].bias_out.fill_(-9.0)
    data = batch(4, labelled=False)
    together, alone = at_rest(model.predict(data)), at_rest(model.predict(data.of([2])))
    assert (2 in together[1]) == (0 in alone[1]) == (threshold > 0)


def test_until_it_is_fitted_no_path_rests():
    assert not any(at_rest(learned(GROUPS, **OPTIONS).eval().predict(batch(4, labelled=False))))


def draws(images=60, regions=8, seed=0):
    """Regions of images, every third of which shows class 0 and every fourth class 1."""
    g = torch.Generator().manual_seed(seed)
    shown = torch.stack([torch.arange(images) % 3 == 0, torch.arange(images) % 4 == 0], 1)
    image = torch.arange(images).repeat_interleave(regions)
    labels = torch.zeros(images * regions, 2)
    labels[torch.arange(images) * regions] = shown.float()  # the first region of an image
    evidence = torch.randn(images * regions, 9, generator=g)
    evidence[:, 2:4] += 8 * labels
    return evidence, image, labels, shown


def test_what_is_fitted_rests_on_images_without_the_classes_and_misses_few():
    rest = Rest(2, 2)
    evidence, image, labels, shown = draws()
    rest.fit(evidence, image, labels, shown, 0.0)
    assert rest.awake(evidence, image, 60)[shown.any(1)].all()
    evidence, image, _, shown = draws(seed=1)
    awake = rest.awake(evidence, image, 60)
    assert awake[shown.any(1)].float().mean() > 0.9
    assert awake[~shown.any(1)].float().mean() < 0.4


def test_a_larger_share_raises_the_thresholds_and_may_miss_so_many():
    kept = []
    for share in (0.0, 0.1, 0.3):
        rest = Rest(2, 2)
        rest.fit(*draws(), share)
        kept.append(rest.threshold.clone())
        again = Rest(2, 2)
        again.fit(*draws(seed=1), share)  # nothing of an earlier fit stays
        again.fit(*draws(), share)
        assert all(torch.equal(v, again.state_dict()[n]) for n, v in rest.state_dict().items())
    assert (kept[0] < kept[1]).all() and (kept[1] < kept[2]).all()


def test_with_few_images_of_a_class_its_path_never_rests():
    evidence, image, labels, shown = draws(images=3 * LEAST_IMAGES - 3)
    rest = Rest(2, 2)
    rest.fit(evidence, image, labels, shown, 0.0)
    assert int(shown[:, 0].sum()) == LEAST_IMAGES - 1 and not rest.threshold.any()
    assert rest.awake(evidence, image, len(shown)).all()


def test_one_region_in_all_is_fitted_to_finite_numbers():
    evidence, image, labels, shown = draws(images=1, regions=1)
    rest = Rest(2, 2)
    rest.fit(evidence, image, labels, shown, 0.0)
    assert all(value.isfinite().all() for value in rest.state_dict().values())
    assert rest.awake(evidence, image, 1).all()


def test_the_best_region_of_an_image_and_the_objects_in_regions():
    scores = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.3, 0.3]])
    best = best_of_images(scores, torch.tensor([0, 0, 2]), 3)
    torch.testing.assert_close(best, torch.tensor([[0.5, 0.9], [0, 0], [0.3, 0.3]]))
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = [torch.cat([box, box + 5]), box[:0], box]
    targets = [
        {"boxes": torch.cat([box, box]), "labels": torch.tensor([1, 2])},
        {"boxes": box, "labels": torch.tensor([0])},
        {"boxes": box[:0], "labels": torch.tensor([], dtype=torch.long)},
    ]
    assert objects_in(boxes, targets, 3).tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_what_is_fitted_after_a_task_is_stored_and_read_again(monkeypatch):
    """Of the examples of the task's own images, in the order of its batches."""
    model = learned(GROUPS[:2], **OPTIONS)
    calls = []
    monkeypatch.setattr(Rest, "fit", lambda self, *seen: calls.append(seen))
    data = batch(4, classes=1)
    fitting.fit_rest(model.train(), model.rests["1"], 1, [data.of([0, 1]), data.of([2, 3])])
    assert model.training
    ((evidence, image, labels, shown, share),) = calls
    assert share == 0.1 and shown.shape == (4, 1) and shown.all()
    assert len(evidence) == len(image) == len(labels) and evidence.shape[1] == 2 * 3 + 1
    assert image.tolist() == sorted(image.tolist()) and set(image.tolist()) == {0, 1, 2, 3}
    assert set(model.new_tensors()) >= {f"rests.1.{n}" for n in model.rests["1"].state_dict()}
