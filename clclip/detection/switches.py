"""The switches of the detection methods (``switches:`` in an experiment file); torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DetectionSwitches(BaseModel):
    """Switches of F-ViT and CL-CLIP."""

    model_config = ConfigDict(extra="forbid", frozen=True)
