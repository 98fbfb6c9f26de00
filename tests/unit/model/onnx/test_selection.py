"""Detections in fixed shapes, as an ONNX file needs them, against those of the detectors."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import batched_nms

from clclip.detection.layers.proposals import canvas_list
from clclip.detection.methods.clclip.pathways import Pathways
from clclip.detection.registry import METHODS
from clclip.evaluation.calibrated.part import Calibrated
from clclip.evaluation.calibrated.score_map import ScoreMap
from clclip.model.onnx.agreement import every_pair
from clclip.model.onnx.regions import Canvases
from clclip.model.onnx.selection import best_detections, score_maps
from clclip.model.onnx.suppression import ABSENT, survivors
from clclip.training.seeds import generator
from tests.helpers.detection import NAMES, SIDE, batch, drowsy, make

GROUPS = [NAMES[:2], NAMES[2:5]]
EXTENTS = torch.tensor([[SIDE, SIDE], [SIDE, 41], [9, SIDE]])
CASES = [(method, {}) for method in METHODS] + [
    ("fvit", {"fusion": 0.3, "extra_level": True}),
    ("fvit_mma", {"fusion": 0.3, "fusion_temperature": 5.0}),
    ("clclip", {"shared": "drift", "fusion": 0.2}),
    ("clclip", {"adapter": "residual", "expert_box": True}),
    ("clclip", {"experts": False, "gate": "minmax"}),
    ("clclip", {"gate": "softmax", "text_score": False}),
    ("clclip", {"gate": "off", "route": "prior", "route_cap": 1}),
    ("clclip", {"refiner": True, "route": "text"}),
    ("clclip", {"fusion": 0.3, "fusion_score": "share"}),
    ("clclip", {"adapter": "residual", "objectness": 0.51}),
    ("clclip", {"adapter": "residual", "rest": 0.1}),
]


def made(method, **options):
    """A detector whose scores and boxes differ from region to region."""
    model = make(method, GROUPS, score_threshold=0.01, **options).eval()
    draws = generator("weights")
    for value in model.parameters():
        value.data += 0.03 * torch.randn(value.shape, generator=draws)
    return drowsy(model.requires_grad_(False), batch(4, classes=3))


def seen(model, count=3):
    """Images for both: a batch whose contents end at ``EXTENTS``, and the same for a graph."""
    data = batch(count, labelled=False)
    extents = EXTENTS[:count]
    canvas = canvas_list(count, (SIDE, SIDE), extents)
    return type(data)(data.taps, data.dense, canvas), Canvases(
        data.taps, data.dense, extents.float()
    )


def present(best, image):
    there = best.scores[image] > ABSENT
    return tuple(part[image][there] for part in best)


@pytest.mark.parametrize(("method", "options"), CASES)
def test_what_is_found_is_what_the_detector_finds(method, options):
    model = made(method, **options)
    data, canvases = seen(model)
    with every_pair(model):
        answers = model.detect(data)
        best = best_detections(model, canvases, list(range(5)), 100)
    assert sum(len(one["scores"]) for one in answers) > 10
    for image, one in enumerate(answers):
        boxes, scores, labels = present(best, image)
        torch.testing.assert_close(scores, one["scores"], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(boxes, one["boxes"], atol=1e-3, rtol=1e-5)
        assert labels.tolist() == one["labels"].tolist()


def test_on_an_image_on_which_a_path_rests_its_classes_are_absent():
    model = made("clclip", rest=0.1)
    model.rests["1"].threshold.fill_(2.0)
    _, canvases = seen(model)
    _, scores, labels = present(best_detections(model, canvases, list(range(5)), 100), 0)
    assert len(scores) and set(labels.tolist()) == {0, 1}


def test_classes_that_were_dropped_take_no_place():
    model = made("clclip")
    data, canvases = seen(model)
    with every_pair(model):
        (answer, *_) = model.detect(data)
    wanted = [
        (label, score) for label, score in zip(answer["labels"], answer["scores"], strict=True)
    ]
    wanted = [(int(label), float(score)) for label, score in wanted if label not in (0, 3)][:7]
    _, scores, labels = present(best_detections(model, canvases, [-1, 0, 1, -1, 2], 7), 0)
    renamed = {1: 0, 2: 1, 4: 2}
    assert labels.tolist() == [renamed[label] for label, _ in wanted]
    torch.testing.assert_close(scores, torch.tensor([score for _, score in wanted]))


def test_scores_are_mapped_after_the_cut_and_sorted_anew():
    names = [name for group in GROUPS for name in group]
    line = ScoreMap(0.5, -1.0, {names[1]: 2.0})
    calibrated = Calibrated(dict.fromkeys(names[:3], line), {})
    model = made("fvit")
    _, canvases = seen(model)
    plain = present(best_detections(model, canvases, list(range(5)), 12), 0)
    maps = score_maps(calibrated, names)
    boxes, scores, labels = present(best_detections(model, canvases, list(range(5)), 12, maps), 0)
    mapped = calibrated.scores(plain[1].numpy(), plain[2].numpy(), names)
    order = (-mapped).argsort(kind="stable")
    assert labels.tolist() == plain[2][order.tolist()].tolist()
    torch.testing.assert_close(scores.double(), torch.from_numpy(mapped[order]), atol=1e-6, rtol=0)
    torch.testing.assert_close(boxes, plain[0][order.tolist()])
    assert score_maps(Calibrated({}, {}), names) is None


@pytest.mark.parametrize("method", ["fvit", "clclip"])
def test_nothing_found_is_no_detection(method):
    model = made(method)
    model.options = model.options.model_copy(update={"score_threshold": 1.0})
    _, canvases = seen(model)
    blank = Canvases([tap * 0 for tap in canvases.taps], canvases.dense, canvases.extents)
    best = best_detections(model, blank, list(range(5)), 10)
    assert not (best.scores > ABSENT).any() and best.boxes.shape[0] == 3


def test_survivors_are_those_of_torchvision_group_by_group():
    draws = generator("groups")
    corner = 40 * torch.rand(4, 30, 2, generator=draws)
    boxes = torch.cat([corner, corner + 5 + 30 * torch.rand(4, 30, 2, generator=draws)], -1)
    scores = torch.rand(4, 30, generator=draws)
    scores[2] = ABSENT
    scores[1, ::2] = ABSENT
    mask = survivors(boxes, scores, 0.4)
    there = scores > ABSENT
    group = torch.arange(4)[:, None].expand(4, 30)
    kept = batched_nms(boxes[there], scores[there], group[there], 0.4)
    assert torch.equal(mask[there].nonzero()[:, 0], kept.sort().values)
    assert not mask[~there].any() and mask.shape == (4, 30)


def test_every_pair_is_asked_for_a_while_only():
    model = made("clclip")
    with every_pair(model):
        assert model.options.route == "all"
    assert isinstance(model, Pathways) and model.options.route == "share"
