"""The hybrid classifier: text half and visual half, each a softmax per image (SECA, section 3.4).

The released code divides by the largest score of the batch, so that its answers depend on the other
images; here every image is classified alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


def text_probabilities(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Return (B, K): mean over s of softmax_k(scale * cos) of features (B, d), texts (s, K, d)."""
    logits = scale * torch.einsum("bd,skd->bsk", features, text)
    return logits.softmax(dim=-1).mean(dim=1)


def visual_probabilities(features: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Return (B, K): softmax_k(scale * cos) of unit features (B, d) and prototypes (K, d)."""
    return (scale * features @ prototypes.T).softmax(dim=-1)


def hybrid_probabilities(
    features: Tensor, text: Tensor, prototypes: Tensor | None, scale: float, text_weight: float
) -> Tensor:
    """Return class probabilities (B, K), rows summing to 1.

    Args:
        features: unit image features (B, d).
        text: unit text embeddings (s, K, d) of all prompts and classes, computed once.
        prototypes: unit prototypes (K, d); None: the text half alone.
        scale: factor on cosines.
        text_weight: weight of the text half; the visual half has the rest.
    """
    by_text = text_probabilities(features, text, scale)
    if prototypes is None:
        return by_text
    by_vision = visual_probabilities(features, prototypes, scale)
    return text_weight * by_text + (1 - text_weight) * by_vision
