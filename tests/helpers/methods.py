"""Detectors, remembered objects and a toy tower for the tests of the other continual methods."""

from __future__ import annotations

import torch
from torch.nn import functional

from clclip.clip.tower import TowerFeatures
from clclip.detection.inputs.dataset import LabelledImage
from clclip.detection.inputs.views import render
from clclip.detection.methods.rehearsal.memory import Crop
from clclip.training.seeds import generator
from tests.helpers.detection import (
    DIM,
    NAMES,
    SIDE,
    WIDTH,
    batch,
    make,
    snapshot,
)
from tests.helpers.detection import step as take_step

GROUPS = [NAMES[:3], NAMES[3:5]]
ROWS = ["fvit_mma", "fvit_pseudo", "fvit_replay", "fvit_ior", "fvit_proto"]


def second_task(method, **switches):
    """Return the detector at the start of task 2, after a step of task 1."""
    first = make(method, GROUPS[:1], **switches)
    first.begin_task()
    take_step(first, batch(classes=3))
    model = make(method, GROUPS, **switches)
    lacking = model.load_state_dict(snapshot(first), strict=False).missing_keys
    assert set(lacking) <= set(model.new_tensors())
    model.begin_task()
    return model


def with_old(data, seed=0):
    """Give every image one pasted object of an old class."""
    for n, target in enumerate(data.targets):
        corner = torch.rand(2, generator=generator("old", seed, n)) * 30
        target["old_boxes"] = torch.cat([corner, corner + 24])[None]
        target["old_labels"] = torch.tensor([n % 3])
    return data


def crop(h=8, w=6, name="ace", value=None, seed=0):
    g = generator("crop", seed, h, w)
    pixels = torch.randint(0, 256, (3, h, w), generator=g, dtype=torch.uint8)
    return Crop(pixels if value is None else torch.full_like(pixels, value), name, 7)


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

    def rendered(self, images, views):
        rows = [
            render(i, v, self.size, self.mean, self.std) for i, v in zip(images, views, strict=True)
        ]
        return torch.stack(rows)

    def canvases(self, ids, views):
        return self.rendered([self.pixels(i) for i in ids], views)

    def features(self, canvases):
        self.seen = canvases
        return self.tower(canvases)

    def read(self, ids, views):
        return self.features(self.canvases(ids, views))


def labelled(count=6, classes=2):
    images = []
    for n in range(count):
        g = generator("labelled", n)
        corner = torch.rand(2, 2, generator=g) * 20
        boxes = torch.cat([corner, corner + 20], dim=1)
        labels = torch.randint(classes, (2,), generator=g)
        images.append(LabelledImage(n, 64, 48, boxes, labels, torch.zeros(0, 4)))
    return images
