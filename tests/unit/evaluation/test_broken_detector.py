"""A small detector is trained, then one part of it is broken: the diagnosis must name that part.

The images are planted features (a code of the class in the cells of each object), so that seconds
of training make a detector which finds everything; what is broken afterwards is its weights alone.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.stages.probe import ProposalOverlaps
from clclip.evaluation.causes import matched
from clclip.evaluation.diagnosis import split_loss
from clclip.training.seeds import generator
from tests.helpers import detection as making

OLD, NEW = making.NAMES[:3], making.NAMES[3]
IDS = {name: 7 + k for k, name in enumerate(making.NAMES[:4])}
SIDE, STRIDE, WIDTH, IMAGES = 64, 8, making.WIDTH, 16
STEPS = 110
SIZES = {"channels": 16, "fc_width": 48, "proposals_test": 40}


def images():
    """Return a batch of images with two objects each, one above the other, and its truth."""
    codes = torch.randn(len(OLD), WIDTH, generator=generator("codes")) * 2
    draw = generator("broken", "boxes")
    taps = torch.randn(IMAGES, WIDTH, SIDE // STRIDE, SIDE // STRIDE, generator=draw) * 0.1
    targets, annotations = [], []
    for n in range(IMAGES):
        boxes, labels = [], []
        for k in range(2):
            label = int(torch.randint(len(OLD), (), generator=draw))
            w, h = (int(torch.randint(2, high, (), generator=draw)) for high in (5, 4))
            x = int(torch.randint(0, 8 - w + 1, (), generator=draw))
            y = 4 * k + int(torch.randint(0, 4 - h + 1, (), generator=draw))
            taps[n, :, y : y + h, x : x + w] += codes[label][:, None, None]
            boxes.append([8.0 * x, 8.0 * y, 8.0 * (x + w), 8.0 * (y + h)])
            labels.append(label)
            place = {"id": 2 * n + k, "image_id": n, "category_id": IDS[OLD[label]]}
            annotations.append(place | {"bbox": [8.0 * x, 8.0 * y, 8.0 * w, 8.0 * h]})
        targets.append({"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)})
        targets[-1]["ignore"] = torch.zeros(0, 4)
    dense = functional.normalize(taps[:, : making.DIM], dim=1)
    canvas = canvas_list(IMAGES, (SIDE, SIDE), torch.tensor([[SIDE, SIDE]] * IMAGES))
    draws = [generator("draws", n) for n in range(IMAGES)]
    data = Batch((taps, taps.tanh(), taps.relu()), dense, canvas, targets, draws)
    categories = [{"id": k, "name": name} for name, k in IDS.items()]
    listed = [{"id": n} for n in range(IMAGES)]
    return data, {"images": listed, "categories": categories, "annotations": annotations}


@pytest.fixture(scope="module")
def trained():
    """A detector of the old classes that knows the images by heart, and those images."""
    data, truth = images()
    model = making.fvit([OLD], **SIZES)
    model.begin_task()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1.0, (step + 1) / 10, (STEPS - step) / 50)
        optimizer.zero_grad()
        sum(model.losses(data).values()).backward()
        optimizer.step()
    return model.eval(), data, truth


def with_new_class(model):
    """Return a copy of the detector that knows one class more, with equal weights."""
    later = making.fvit([OLD, [NEW]], **SIZES)
    later.load_state_dict(copy.deepcopy(model.state_dict()))
    later.text[-1] = -functional.normalize(later.text[:-1].sum(0), dim=0)  # like no old class
    return later.eval()


def run(model, data, truth):
    """Return (matched run, overlap of proposals) of a detector on the images."""
    groups = [OLD] if len(model.text) == len(OLD) else [OLD, [NEW]]
    names = [name for group in groups for name in group]
    found, proposed = model.predict(data)
    overlaps = ProposalOverlaps(1, {"groups": groups}, truth)
    overlaps.match(proposed, range(IMAGES), [1.0] * IMAGES)
    rows = []
    for n, one in enumerate(found):
        for box, score, label in zip(one["boxes"], one["scores"], one["labels"], strict=True):
            x0, y0, x1, y1 = box.tolist()
            row = {"image_id": n, "category_id": IDS[names[label]], "score": float(score)}
            rows.append(row | {"bbox": [x0, y0, x1 - x0, y1 - y0]})
    return matched(truth, rows, {name: IDS[name] for name in names}), overlaps.best


def causes(trained, broken):
    """Return points lost by cause, summed over the old classes."""
    model, data, truth = trained
    before, _ = run(model, data, truth)
    after, proposals = run(broken, data, truth)
    total = {}
    for name in OLD:
        for cause, points in split_loss(before, after, IDS[name], {IDS[NEW]}, proposals).items():
            total[cause] = total.get(cause, 0.0) + points
    return total


def no_proposals(model):
    """Prefer what is no object."""
    for parameter in model.path.rpn.head.cls_logits.parameters():
        parameter.neg_()


def moved_boxes(model):
    """Shift every box by two fifths of its width."""
    model.path.box.bias += torch.tensor([4.0, 0.0, 0.0, 0.0])


def large_boxes(model):
    """Scale every box by e^0.6 across and up."""
    model.path.box.bias += torch.tensor([0.0, 0.0, 3.0, 3.0])


def low_scores(model):
    """Push every region towards the background."""
    direction = functional.normalize(model.classifier.background, dim=0)
    model.classifier.project[-1].bias += 50 * direction


def like_new(model):
    """Swap the texts of an old and the new class."""
    model.text[[0, 3]] = model.text[[3, 0]]


def like_old(model):
    """Swap the texts of two old classes."""
    model.text[[0, 1]] = model.text[[1, 0]]


def test_the_detector_finds_everything_and_one_class_more_changes_nothing(trained):
    model, data, truth = trained
    pairs = run(model, data, truth)[0].pairs
    assert (pairs.partner >= 0).sum() == len(pairs.objects) == 2 * IMAGES
    assert sum(abs(points) for points in causes(trained, with_new_class(model)).values()) < 1


@pytest.mark.parametrize(
    ("break_it", "cause"),
    [
        (no_proposals, "not proposed"),
        (moved_boxes, "box"),
        (large_boxes, "box"),
        (low_scores, "score"),
        (like_new, "new class"),
        (like_old, "old class"),
    ],
)
@torch.no_grad()
def test_the_broken_part_is_named(trained, break_it, cause):
    broken = with_new_class(trained[0])
    intact = {name: value.clone() for name, value in broken.state_dict().items()}
    break_it(broken)
    touched = [n for n, v in broken.state_dict().items() if not torch.equal(v, intact[n])]
    assert len(touched) <= 2, "only one part is broken"
    found = causes(trained, broken)
    lost = sum(max(points, 0.0) for points in found.values())
    assert lost > 50, "points of AP over three classes"
    assert found[cause] > 0.75 * lost, found
