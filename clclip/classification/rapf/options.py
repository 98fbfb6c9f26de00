"""The options of RAPF; torch-free. Published values, except where ``docs/closed-form.md`` says."""

from __future__ import annotations

from pydantic import Field

from clclip.core.options import Options


class RapfOptions(Options):
    """RAPF. Its schedule is its own: of ``training`` it reads image_size alone."""

    lr: float = Field(1e-3, gt=0, le=10, description="learning rate of Adam")
    epochs: int = Field(15, ge=1, le=10_000, description="passes over the task's features")
    batch_size: int = Field(128, ge=1, le=65_536, description="features of a step")
    milestones: tuple[int, ...] = Field(
        (4, 10), description="epochs after which the learning rate is divided by 10"
    )
    scale: float = Field(100.0, gt=0, description="factor on cosines")
    replay_classes: int = Field(2, ge=1, le=10_000, description="old classes drawn in a step")
    old_samples: int = Field(20, ge=1, le=10_000, description="pseudo features of each")
    threshold: float = Field(
        0.55, ge=0, le=2, description="texts of an old and a new class nearer than this are a pair"
    )
    pair_samples: int = Field(40, ge=1, le=10_000, description="pseudo features of a pair's class")
    margin: float = Field(0.1, ge=0, le=2, description="margin of the hinge on pairs")
    fusion: float = Field(
        0.6, ge=0, le=1, description="least share of the new adapter where both are fused"
    )
