"""``fvit_proto``: region prototypes of old classes replayed into F-ViT's classifier; no pictures.

The idea is NSGP-RePRE's ("Demystifying Catastrophic Forgetting in Two-Stage Incremental Object
Detector", ICML 2025): forgetting sits in the classifier of regions, so one coarse and several fine
prototypes of region features per old class are replayed there, while updates of the extractor are
projected so that old features stay. The equations are ours; no code of theirs was read. After a
task, with R(o) the region features (C, 7, 7) of a labelled object o of class c,

    coarse_c = mean R(o),  fine_c,k = mean over group k of the objects' R (k-means of directions)

and in later tasks, g the layers from region features to logits, T the model from before the task,

    L = L_detector(unbiased) + w_p mean_p CE(g(p), class of p)
      + w_a mean_r |R(r) - R_T(r)|^2 + MMA's distillation of regions and proposals

over all prototypes p and over regions r that T proposes on the new images. The second line stands
in for their null-space projection: it keeps the features in which the prototypes were taken.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from clclip.detection.inputs.dataset import FeatureBatches
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import (
    proposal_distillation,
    rpn_outputs,
    unbiased_cross_entropy,
)
from clclip.detection.layers.path import REGION
from clclip.detection.layers.prototypes import class_prototypes
from clclip.detection.methods.detector import DetectorInputs
from clclip.detection.methods.distilled import DistilledDetector
from clclip.detection.methods.two_stage import TrainingPass
from clclip.detection.options.fvit import ProtoOptions

OBJECTS = 200  # at most, of a class, that prototypes are taken from
STEP = 16  # images a pass


class Prototypes(nn.Module):
    """The prototypes of one task's classes: ``regions`` (K, 1 + fine, C, 7, 7), stored as halves.

    ``known`` (K,) says which classes had an object to take them from.
    """

    regions: Tensor
    known: Tensor

    def __init__(self, classes: int, fine: int, channels: int) -> None:
        super().__init__()
        shape = (classes, 1 + fine, channels, REGION, REGION)
        self.register_buffer("regions", torch.zeros(shape, dtype=torch.float16))
        self.register_buffer("known", torch.zeros(classes, dtype=torch.bool))


class ProtoFViT(DistilledDetector):
    """F-ViT with unbiased losses, whose classifier also sees prototypes of old classes."""

    options: ProtoOptions

    def __init__(self, inputs: DetectorInputs, options: ProtoOptions) -> None:
        super().__init__(inputs, options)
        self.prototypes = nn.ModuleList(
            Prototypes(len(group), options.proto_fine, options.channels) for group in inputs.groups
        )

    def new_tensors(self) -> list[str]:
        """Return the names of this task's prototypes."""
        last = f"prototypes.{len(self.prototypes) - 1}."
        return [name for name in self.state_dict() if name.startswith(last)]

    def class_loss(self, logits: Tensor, column: Tensor) -> tuple[Tensor, int]:
        """Return the unbiased cross-entropy and the number of regions."""
        return unbiased_cross_entropy(logits, column, self.previous), len(logits)

    def distillation(self, batch: Batch, student: TrainingPass) -> dict[str, tuple[Tensor, int]]:
        """Return the replay of prototypes, the drift of region features, and MMA's distillation."""
        levels, boxes = self.teacher_regions(batch)
        with torch.no_grad():
            before = rpn_outputs(self.teacher.path, levels)  # type: ignore[union-attr]  # from task 2 on
        gap = proposal_distillation(rpn_outputs(self.path, student.levels), before)
        return {
            "distil_rpn": (self.options.distil_rpn_weight * gap, len(boxes)),
            **self.region_distillation(batch, student, levels, boxes),
            "align": self.drift(batch, student, levels, boxes),
            "prototypes": self.replay(),
        }

    def drift(
        self,
        batch: Batch,
        student: TrainingPass,
        levels: OrderedDict[str, Tensor],
        boxes: list[Tensor],
    ) -> tuple[Tensor, int]:
        """Return w_a times the mean squared change of region features, and how many regions."""
        with torch.no_grad():
            wanted = self.teacher.path.regions(levels, boxes)  # type: ignore[union-attr]  # from task 2 on
        regions = self.path.regions(student.levels, boxes)
        if not len(regions):
            return regions.sum(), 0
        return self.options.align_weight * functional.mse_loss(regions, wanted), len(regions)

    def replay(self) -> tuple[Tensor, int]:
        """Return w_p times the classifier's mean loss on all old prototypes, and their number."""
        regions, column = self.remembered()
        logits = self.classifier(self.path.vectors(regions), self.text)
        if not len(column):
            return logits.sum(), 0
        loss = functional.cross_entropy(logits.float(), column)
        return self.options.proto_weight * loss, len(column)

    def remembered(self) -> tuple[Tensor, Tensor]:
        """Return the prototypes (N, C, 7, 7) of all earlier classes and their columns (N,)."""
        earlier = list(self.prototypes)[:-1]
        regions = torch.cat([part.regions for part in earlier])
        known = torch.cat([part.known for part in earlier])
        column = torch.where(known)[0]
        each = regions.shape[1]
        return regions[known].flatten(0, 1).float(), column.repeat_interleave(each)

    def fitted(self, batches: FeatureBatches) -> dict[str, Tensor]:
        """Take this task's prototypes from its labelled objects; return them by name."""
        own = self.prototypes[-1]
        for k, regions in enumerate(self.object_regions(batches)):
            own.known[k] = len(regions) > 0
            if len(regions):
                own.regions[k] = class_prototypes(regions, self.options.proto_fine)
        place = len(self.prototypes) - 1
        return {f"prototypes.{place}.{name}": value for name, value in own.state_dict().items()}

    @torch.no_grad()
    def object_regions(self, batches: FeatureBatches) -> list[Tensor]:
        """Return the region features (N, C, 7, 7) of objects of each current class.

        Objects are at equal distances in the order of the images, ``OBJECTS`` a class at most.
        """
        owners: list[list[tuple[int, int]]] = [[] for _ in self.groups[-1]]
        for i, image in enumerate(batches.images):
            for k, label in enumerate(image.labels.tolist()):
                owners[label].append((i, k))
        picked = {pair for own in owners for pair in own[:: max(1, -(-len(own) // OBJECTS))]}
        members = sorted({i for i, _ in picked})
        by_class: list[list[Tensor]] = [[] for _ in owners]
        for start in range(0, len(members), STEP):
            some = members[start : start + STEP]
            batch = batches.plain(some).to(self.device)
            images = [batches.images[i] for i in some]
            indices = [[k for n, k in sorted(picked) if n == i] for i in some]
            boxes = [
                batches.letterboxed(image).boxes(image.boxes[own]).to(self.device)
                for image, own in zip(images, indices, strict=True)
            ]
            regions = self.path.regions(self.path.levels(batch.taps), boxes)
            labels = [image.labels[own] for image, own in zip(images, indices, strict=True)]
            for label, region in zip(torch.cat(labels).tolist(), regions, strict=True):
                by_class[label].append(region)
        shape = self.prototypes[-1].regions.shape[2:]
        return [torch.stack(own) if own else torch.zeros(0, *shape) for own in by_class]
