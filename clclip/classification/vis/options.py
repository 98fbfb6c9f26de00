"""The options of VIS; torch-free. Published values, except where ``docs/closed-form.md`` says."""

from __future__ import annotations

from pydantic import Field

from clclip.core.options import Options


class VisOptions(Options):
    """VIS. Its schedule is its own: of ``training`` it reads image_size alone."""

    @property
    def reads_text(self) -> bool:
        """Whether a task reads the texts of its classes."""
        return False

    blocks: tuple[int, ...] | None = Field(
        None, description="blocks whose pooled tokens are read, from 1; null: 6, 8, 10, 12 of 12"
    )
    mixer_width: int = Field(256, ge=1, le=65_536, description="hidden units of the mixer")
    anchor: float = Field(
        0.01, ge=0, description="weight of the squared distance between mixed and last tokens"
    )
    mixer_lr: float = Field(0.01, gt=0, le=10, description="learning rate of SGD on the mixer")
    mixer_epochs: int = Field(
        5, ge=0, le=10_000, description="passes of the mixer over the first task's images"
    )
    mixer_batch: int = Field(64, ge=1, le=65_536, description="images of a step of the mixer")
    random_features: int = Field(
        2000, ge=1, le=100_000, description="random ReLU features of the ridge"
    )
    cost: float = Field(10.0, gt=0, description="weight C of the squared error beside the penalty")
    fixed_penalty: float | None = Field(
        None, gt=0, description="ridge penalty of VIS; null: by a fifth of the first task's images"
    )
