"""The options of zero-shot CLIP; torch-free."""

from __future__ import annotations

from pydantic import Field

from clclip.classification.features.layout import TEMPLATE
from clclip.core.options import Options


class ZeroShotOptions(Options):
    """Zero-shot CLIP: images against class names in one sentence."""

    template: str = Field(TEMPLATE, description="sentence around a class name")
    inference_scale: float = Field(20.0, gt=0, description="factor on cosines in predictions")
