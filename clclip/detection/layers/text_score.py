"""Regions against class texts: F-ViT's classifier, and what CL-CLIP's experts take from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TRAINING_WEIGHT = 0.1  # of the text's log-odds in the experts' loss


class TextClassifier(nn.Module):
    """Region vectors against class texts, logit = tau * cos(z, t_c), and learned background.

    Args:
        width: width of the region vectors.
        dim: dimension of the text embeddings.
        temperature: initial tau.
    """

    def __init__(self, width: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, dim)
        )
        self.background = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.background, std=dim**-0.5)
        self.log_scale = cosine_scale(temperature)

    def forward(self, vectors: Tensor, text: Tensor) -> Tensor:
        """Return logits (R, K + 1) of vectors (R, width) against text (K, dim); background last."""
        return self.against(self.embed(vectors), text)

    def embed(self, vectors: Tensor) -> Tensor:
        """Return the unit embeddings (R, dim) of vectors (R, width)."""
        return functional.normalize(self.project(vectors).float(), dim=-1)

    def against(self, z: Tensor, text: Tensor) -> Tensor:
        """Return logits (R, K + 1) of embeddings (R, dim) against text; background last."""
        columns = torch.cat([text, functional.normalize(self.background, dim=0)[None]])
        return self.log_scale.exp().clamp(max=100.0) * z @ columns.T


class TextScore(nn.Module):
    """A path's text classifier, whose log-odds join its experts' scores (ours; docs/cl-clip.md).

    An expert learns from the objects of its own class alone; this classifier learns to distinguish
    the classes of a task, by a loss of its own. The score of a class is its log-odds against the
    rest: background and the classes of earlier tasks, whose objects are unlabelled in the images.
    No other class of the task and no later one enters it, so later tasks do not change it.

    A pair's score is the weighted mean of the expert's log-odds and these. While a task is trained
    their weight is small: on training regions either part knows the answer, so a large weight would
    leave the experts little to learn. On new images the two err apart, and the larger weight that
    is set when the task ends (``text_weight``) was better wherever training had run its recipe, and
    worse after the smoke job's seconds of it (docs/ablation.md, section 7).

    Args:
        classifier: the classifier, to be trained with the path.
    """

    def __init__(self, classifier: TextClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.gamma: Tensor  # the weight of the log-odds here in a pair's score
        self.register_buffer("gamma", torch.tensor(TRAINING_WEIGHT))

    def forward(self, vectors: Tensor, text: Tensor, previous: int) -> tuple[Tensor, Tensor]:
        """Return the log-odds (R, K) of a task's classes, and the logits they come from.

        The log-odds carry no gradient. The logits (R, previous + K + 1), background last, are for
        the unbiased cross-entropy, which knows that background may hide an old class.

        Args:
            vectors: (R, width).
            text: (previous + K, dim) texts of the classes of earlier tasks, then of the task's own.
            previous: number of classes of earlier tasks.
        """
        logits = self.classifier(vectors, text).float()
        rest = torch.cat([logits[:, :previous], logits[:, -1:]], dim=1).logsumexp(1, keepdim=True)
        return (logits[:, previous:-1] - rest).detach(), logits

    def join(self, experts: Tensor, odds: Tensor) -> Tensor:
        """Return the scores of pairs (N,) from their experts' and their texts' log-odds (N,)."""
        return experts + self.gamma * (odds - experts)


def cosine_scale(value: float) -> nn.Parameter:
    """Return a learnable positive scale of cosine logits, stored as its logarithm."""
    return nn.Parameter(torch.tensor(math.log(value)))
