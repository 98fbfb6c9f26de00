"""Small detectors and batches for the tests of detection: the real modules at toy sizes."""

from __future__ import annotations

import torch
from torch.nn import functional

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.clclip.fit_rest import examples
from clclip.detection.methods.clclip.rest import best_of_images
from clclip.detection.methods.detector import Detector, DetectorInputs
from clclip.detection.methods.fvit import FViT
from clclip.detection.registry import METHODS
from clclip.detection.stages.build import make_detector
from clclip.training.seeds import generator

WIDTH, STRIDE, SIDE, DIM = 16, 8.0, 64, 8
NAMES = ["ace", "jack", "king", "nine", "queen", "ten"]
SMALL = {
    "channels": 8,
    "fc_width": 16,
    "rpn_batch": 32,
    "roi_batch": 16,
    "proposals_train": 30,
    "proposals_test": 20,
}


def text_rows(names=NAMES) -> torch.Tensor:
    """Return one unit row per name that depends on the name alone."""
    rows = [torch.randn(DIM, generator=generator("text", name)) for name in names]
    return functional.normalize(torch.stack(rows), dim=-1)


def background_rows() -> torch.Tensor:
    return functional.normalize(torch.randn(2, DIM, generator=generator("background")), dim=-1)


def inputs(groups, seed: int = 0, origins=()) -> DetectorInputs:
    """Return what a detector of these groups is built for."""
    text = text_rows([name for group in groups for name in group])
    return DetectorInputs(WIDTH, STRIDE, groups, text, background_rows(), seed, origins)


def make(method, groups, *, seed: int = 0, origins=(), **options) -> Detector:
    """Return a small detector of any method."""
    torch.manual_seed(seed)
    small = SMALL | ({"expert_width": 8} if method.startswith("clclip") else {})
    given = METHODS[method].given(small | options)
    return make_detector(method, inputs(groups, seed, origins), given)


def clclip(groups, *, seed: int = 0, **options) -> ClClip:
    return make("clclip", groups, seed=seed, **options)


def fvit(groups, *, seed: int = 0, **options) -> FViT:
    return make("fvit", groups, seed=seed, **options)


def batch(count: int = 2, classes: int = 3, *, seed: int = 0, labelled: bool = True) -> Batch:
    """Return a batch whose features and labels depend on each image's number alone."""
    taps, dense, targets, draws = [], [], [], []
    cells = int(SIDE / STRIDE)
    for n in range(count):
        g = generator("image", seed, n)
        taps.append(torch.randn(3, WIDTH, cells, cells, generator=g))
        dense.append(functional.normalize(torch.randn(DIM, cells, cells, generator=g), dim=0))
        corner = torch.rand(2, 2, generator=g) * 30
        size = 16 + torch.rand(2, 2, generator=g) * 14
        boxes = torch.cat([corner, corner + size], dim=1)
        labels = torch.randint(classes, (2,), generator=g)
        targets.append({"boxes": boxes, "labels": labels, "ignore": torch.zeros(0, 4)})
        draws.append(generator("draws", seed, n))
    levels = tuple(torch.stack(level) for level in zip(*taps, strict=True))
    extents = torch.tensor([[SIDE, SIDE]] * count)
    canvas = canvas_list(count, (SIDE, SIDE), extents)
    if not labelled:
        return Batch(levels, torch.stack(dense), canvas)
    return Batch(levels, torch.stack(dense), canvas, targets, draws)


def step(model, data: Batch) -> None:
    """Take one large optimizer step on everything that the task trains."""
    optimizer = torch.optim.AdamW(model.trained().values(), lr=0.05, weight_decay=0.1)
    sum(model.losses(data).values()).backward()
    optimizer.step()


def snapshot(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def learned(groups, **switches) -> ClClip:
    """Return the detector after training every task but the last one for a step."""
    state, model = {}, None
    for t in range(1, len(groups) + 1):
        model = clclip(groups[:t], **switches)
        model.load_state_dict(state, strict=False)
        model.begin_task()
        if t < len(groups):
            step(model, batch(classes=len(groups[t - 1])))
        state = snapshot(model)
    return model


def old_detections(model, count: int, images: int = 2) -> list[dict[str, torch.Tensor]]:
    """Return what is found of the first ``count`` classes, per image."""
    found = model.eval().detect(batch(images, labelled=False))
    return [
        {name: value[image["labels"] < count] for name, value in image.items()} for image in found
    ]


def drowsy(model, data: Batch) -> ClClip:
    """Let each later path rest on two of the four images of ``data``, as nets of noise decide."""
    model.eval()
    for place, rest in getattr(model, "rests", {}).items():
        for name in ("weight_in", "bias_in", "weight_out"):
            value = getattr(rest, name)
            draws = generator("drowsy", place, name)
            value.copy_(0.2 * torch.randn(value.shape, generator=draws))  # none is sure
        rest.spread.fill_(1.0)
        seen = examples(model, int(place), [data])
        best = best_of_images(rest.likely(seen.evidence), seen.image, 4)
        rest.threshold.copy_(best.sort(0).values[1:3].mean(0))
    return model


def truth_of(data: Batch) -> dict:
    """Return the labels of a batch as a COCO data set, in pixels of images half as large."""
    annotations = [
        {"id": 10 * n + k, "image_id": 100 + n, "category_id": 7 + int(label)}
        | {"bbox": [float(v) / 2 for v in (x0, y0, x1 - x0, y1 - y0)]}
        for n, target in enumerate(data.targets)
        for k, ((x0, y0, x1, y1), label) in enumerate(
            zip(target["boxes"], target["labels"], strict=True)
        )
    ]
    names = [{"id": 7 + k, "name": name} for k, name in enumerate(NAMES)]
    return {"categories": names, "annotations": annotations, "images": []}
