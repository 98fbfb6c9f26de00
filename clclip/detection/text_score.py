"""Regions against class texts: F-ViT's classifier, and what CL-CLIP's experts take from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from clclip.detection.regions import BACKGROUND


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
        z = functional.normalize(self.project(vectors).float(), dim=-1)
        columns = torch.cat([text, functional.normalize(self.background, dim=0)[None]])
        return self.log_scale.exp().clamp(max=100.0) * z @ columns.T


class TextScore(nn.Module):
    """A path's text classifier, whose log-odds join its experts' scores (ours; docs/cl-clip.md).

    An expert learns from the objects of its own class alone; what tells one shape from another is
    learned here from all classes of the task at once. It is trained by a loss of its own, over the
    task's classes and background. The score of a class is its log-odds against background, which no
    other class enters, so classes that come later leave it as it was.

    Args:
        width: width of the region vectors.
        dim: dimension of the text embeddings.
        temperature: initial tau.
    """

    def __init__(self, width: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.classifier = TextClassifier(width, dim, temperature)
        self.share = nn.Parameter(torch.tensor(0.1))  # gamma, the weight beside the experts

    def forward(self, vectors: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (R, K) for the experts and the classifier's logits (R, K + 1).

        The scores carry gradient to gamma alone.
        """
        logits = self.classifier(vectors, text).float()
        return self.share * (logits[:, :-1] - logits[:, -1:]).detach(), logits


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of regions over the task's classes and background, their mean.

    Args:
        logits: (R, K + 1), background last.
        labels: (R,) index of the current class, or BACKGROUND.
    """
    last = logits.shape[1] - 1
    return functional.cross_entropy(logits, torch.where(labels == BACKGROUND, last, labels))


def cosine_scale(value: float) -> nn.Parameter:
    """Return a learnable positive scale of cosine logits, stored as its logarithm."""
    return nn.Parameter(torch.tensor(math.log(value)))
