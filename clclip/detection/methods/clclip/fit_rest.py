"""What a task's path may rest on, fitted to the task's own images once it has been trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from clclip.detection.layers.batch import Batch
from clclip.detection.methods.clclip.inference import look, route, run_regions
from clclip.detection.methods.clclip.pathways import Pathways
from clclip.detection.methods.clclip.rest import Rest, objects_in


class Examples(NamedTuple):
    """What a task's images show, as the first path of its line sees them.

    Attributes:
        evidence: (R, width) of the regions of all images (``Sight.evidence``).
        image: (R,) the image of each.
        labels: (R, K) 1.0 where a region shows an object of the class.
        shown: (N, K) bool, which images show the class.
    """

    evidence: Tensor
    image: Tensor
    labels: Tensor
    shown: Tensor


def fit_rest(model: Pathways, rest: Rest, index: int, batches: Iterable[Batch]) -> None:
    """Fit ``rest`` to a task's training images.

    Args:
        model: trained; the path of the task is not run.
        rest: of the task.
        index: its 0-based place.
        batches: the task's images, labelled, in a fixed order.
    """
    training = model.training
    if (seen := examples(model.eval(), index, batches)) is not None:
        rest.fit(seen.evidence, seen.image, seen.labels, seen.shown, model.options.rest)
    model.train(training)


@torch.no_grad()
def examples(model: Pathways, index: int, batches: Iterable[Batch]) -> Examples | None:
    """Return what images of a task show; None where the first path looks at no region of any."""
    own, origin = model.classes_of(index), model.origins[index]
    path, numbers = model.shared_paths()[origin], range(own.stop - own.start)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    shown: list[list[bool]] = []
    for batch in batches:
        levels = path.levels(batch.taps)
        proposals, _ = path.propose(levels, batch.canvas)
        routed = route(model, batch, origin, proposals)
        regions = run_regions(model, path, levels, proposals, routed)
        if regions is not None:
            sight = look(model, batch, path, origin, regions)
            evidence = sight.evidence(model.text[own])
            labels = objects_in(regions.boxes, batch.targets, len(numbers))
            parts.append((evidence, sight.image + len(shown), labels))
        shown += [[k in one["labels"].tolist() for k in numbers] for one in batch.targets]
    if not parts:
        return None
    evidence, image, labels = (torch.cat(own) for own in zip(*parts, strict=True))
    return Examples(evidence, image, labels, torch.tensor(shown, device=image.device))
