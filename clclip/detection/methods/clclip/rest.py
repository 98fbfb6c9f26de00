"""Which images a later task's path may rest on, as the first path of its line sees them (ours).

The first path runs on every image anyway, and is frozen. For each region that it looks at, a small
net reads how its text classifier takes the region among its own classes, background and those of
the later task, and what the frozen CLIP says of all of them in it. The likeliest region of a class
decides: where none of a task's classes reaches its threshold, the task's pyramid, proposals and
experts do not run. Net and thresholds are fitted to the task's own images when it has been trained,
and frozen with it, so later tasks and other images of a batch change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou

from clclip.detection.layers.text_score import TextClassifier
from clclip.training.seeds import generator

FOLDS, HIDDEN = 5, 16
STEPS, RATE, DECAY = 300, 0.02, 1e-3  # of the fit: AdamW on all regions at once
RARE = 20.0  # at most so much more does a region of a class weigh than one of none
LEAST_IMAGES = 10  # of a class, for a threshold; with fewer its path never rests


class Sight(NamedTuple):
    """What the first path of a line sees of a batch, in the regions that it looks at.

    Attributes:
        classifier: its text classifier.
        z: (R, d) unit embeddings of the regions of all images, in order.
        dense: (R, d) the frozen dense tokens, their mean in each region: times a text it is the
            mean cost.
        text: (K1, d) texts of its own classes.
        image: (R,) the image of each region.
    """

    classifier: TextClassifier
    z: Tensor
    dense: Tensor
    text: Tensor
    image: Tensor

    def evidence(self, text: Tensor) -> Tensor:
        """Return what is read of each region for a later task, (R, 2 * (K1 + K) + 1).

        Args:
            text: (K, d) texts of the later task's classes.
        """
        with torch.autocast(text.device.type, enabled=False):
            both = torch.cat([self.text, text])
            logits = self.classifier.against(self.z, both)
            return torch.cat([logits.log_softmax(1), self.dense @ both.T], dim=1).float()


class Rest(nn.Module):
    """The nets of one later task, one for each fold of its training images, and its thresholds.

    Args:
        first: number of classes of the line's first task, K1.
        own: number of classes of the task, K.
    """

    def __init__(self, first: int, own: int) -> None:
        super().__init__()
        width = 2 * (first + own) + 1
        shapes: dict[str, Sequence[int]] = {
            "middle": (width,),
            "spread": (width,),
            "weight_in": (FOLDS, width, HIDDEN),
            "bias_in": (FOLDS, 1, HIDDEN),
            "weight_out": (FOLDS, HIDDEN, own),
            "bias_out": (FOLDS, 1, own),
            "threshold": (own,),  # 0 until it is fitted: every image reaches that
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    middle: Tensor
    spread: Tensor
    weight_in: Tensor
    bias_in: Tensor
    weight_out: Tensor
    bias_out: Tensor
    threshold: Tensor

    def awake(self, evidence: Tensor, image: Tensor, count: int) -> Tensor:
        """Tell which of ``count`` images may show a class of the task, (count,) bool.

        Args:
            evidence: (R, width), see ``Sight.evidence``.
            image: (R,) the image of each region.
            count: number of images.
        """
        best = best_of_images(self.likely(evidence), image, count)
        return (best >= self.threshold).any(1)

    def likely(self, evidence: Tensor) -> Tensor:
        """Return how likely each region shows a class of the task, (R, K) in [0, 1]."""
        return self._logits(evidence).sigmoid().mean(0)

    def _logits(self, evidence: Tensor) -> Tensor:
        """Return the logits of every fold's net, (FOLDS, R, K)."""
        x = (evidence - self.middle) / self.spread.clamp(min=1e-6)
        hidden = functional.relu(x @ self.weight_in + self.bias_in)
        return hidden @ self.weight_out + self.bias_out

    def fit(
        self, evidence: Tensor, image: Tensor, labels: Tensor, shown: Tensor, share: float
    ) -> None:
        """Fit the nets to training images, and thresholds to what the nets say of images unseen.

        Args:
            evidence: (R, width) of the regions of all training images.
            image: (R,) the image of each.
            labels: (R, K) 1.0 where a region shows an object of the class.
            shown: (N, K) which images show the class.
            share: of a class's images, the share that may be missed.
        """
        self.middle.copy_(evidence.mean(0))
        self.spread.copy_(evidence.std(0).nan_to_num())  # none of a single region
        draws = generator("rest", *evidence.shape[1:])
        for name in ("weight_in", "weight_out"):
            value = getattr(self, name)
            value.copy_(torch.randn(value.shape, generator=draws) / value.shape[1] ** 0.5)
        self.bias_in.zero_()
        self.bias_out.zero_()
        fold = torch.arange(len(shown), device=image.device) % FOLDS
        seen = fold[image] != torch.arange(FOLDS, device=image.device)[:, None]  # (FOLDS, R)
        with torch.enable_grad():
            self._train(evidence, labels, seen.float()[..., None])
        unseen = self._logits(evidence).sigmoid()[
            fold[image], torch.arange(len(image), device=image.device)
        ]
        best = best_of_images(unseen, image, len(shown))
        for k, own in enumerate(shown.T):
            scores = best[own, k].sort().values
            enough = len(scores) >= LEAST_IMAGES
            self.threshold[k] = scores[int(share * len(scores))] if enough else 0.0

    def _train(self, evidence: Tensor, labels: Tensor, weight: Tensor) -> None:
        """Train the nets, each on the regions of weight 1: ``weight`` is (FOLDS, R, 1)."""
        nets = [self.weight_in, self.bias_in, self.weight_out, self.bias_out]
        optimizer = torch.optim.AdamW(
            [value.requires_grad_() for value in nets], lr=RATE, weight_decay=DECAY
        )
        positive = labels.sum(0)
        rare = ((len(labels) - positive) / positive.clamp(min=1)).clamp(max=RARE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(
                self._logits(evidence),
                labels.expand(FOLDS, -1, -1),
                weight.expand(-1, -1, labels.shape[1]),
                pos_weight=rare,
            )
            loss.backward()
            optimizer.step()
        for value in nets:
            value.requires_grad_(False)


def best_of_images(scores: Tensor, image: Tensor, count: int) -> Tensor:
    """Return the best score (count, K) of each image's regions; 0 without a region."""
    best = scores.new_zeros(count, scores.shape[1])
    index = image[:, None].expand_as(scores)
    return best.scatter_reduce(0, index, scores, "amax")


def objects_in(boxes: list[Tensor], targets: list[dict[str, Tensor]], classes: int) -> Tensor:
    """Return (R, classes) 1.0 where a region has an IoU of 0.5 with an object of the class.

    Args:
        boxes: per image (R_i, 4).
        targets: per image "boxes" (G, 4) and "labels" (G,).
        classes: number of classes.
    """
    result = []
    for own, target in zip(boxes, targets, strict=True):
        near = (box_iou(own, target["boxes"]) >= 0.5).float()  # (R_i, G)
        result.append((near @ functional.one_hot(target["labels"], classes).float()).clamp(max=1))
    return torch.cat(result)
