"""Five steps of real training on toy batches, in shares; also the work of spawned processes."""

from __future__ import annotations

import torch
from torch.nn import functional

from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.training import fit as fit_module
from clclip.training.fit import FitSettings, fit
from clclip.training.seeds import generator
from tests.helpers.detection import DIM, SIDE, STRIDE, WIDTH

BATCH = 5


def images(numbers) -> Batch:
    """Return images by number: unequal numbers of objects, fresh generators."""
    taps, dense, targets, draws = [], [], [], []
    cells = int(SIDE / STRIDE)
    for n in numbers:
        g = generator("shared image", n)
        taps.append(torch.randn(3, WIDTH, cells, cells, generator=g))
        dense.append(functional.normalize(torch.randn(DIM, cells, cells, generator=g), dim=0))
        objects = n % 3  # one image of three shows nothing
        corner = torch.rand(objects, 2, generator=g) * 30
        boxes = torch.cat([corner, corner + 16 + torch.rand(objects, 2, generator=g) * 14], dim=1)
        labels = torch.randint(3, (objects,), generator=g)
        targets.append({"boxes": boxes, "labels": labels, "ignore": torch.zeros(0, 4)})
        draws.append(generator("shared draws", n))
    levels = tuple(torch.stack(level) for level in zip(*taps, strict=True))
    extents = torch.tensor([[SIDE, SIDE]] * len(draws))
    canvas = canvas_list(len(draws), (SIDE, SIDE), extents)
    return Batch(levels, torch.stack(dense), canvas, targets, draws)


def run_steps(model, folder, *, micro_batches: int) -> list[dict]:
    """Train five steps of five images each; return the row of every step."""
    model.begin_task()
    fit_module.RECORD_STEPS = 1

    def losses_at(step, share):
        members = share.part([step * BATCH + k for k in range(BATCH)])
        return model.losses(images(members)) if members else None

    # not Adam: it turns the sign of a gradient near zero, which is rounding, into a whole step
    settings = FitSettings(5, 5e-3, BATCH, "sgd", schedule="constant", grad_clip=10.0)
    try:
        history = fit(
            model.trained(),
            losses_at,
            settings,
            label="t",
            resume=folder,
            digest="d",
            micro_batches=micro_batches,
        )
    finally:
        fit_module.RECORD_STEPS = 10
    return history.rows
