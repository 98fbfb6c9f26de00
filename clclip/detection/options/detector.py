"""What every detector can be set to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from clclip.core.errors import WrongValue
from clclip.core.options import Needs, Options

SCALES = (4.0, 2.0, 1.0, 0.5)

GUARD = frozenset({"relegation_guard", "guard_threshold", "guard_overlap"})
GUARDED = {"relegation_guard": ("ignore", "pseudo")}


def _known_scale(value: float) -> float:
    """Return ``value`` if the pyramid has a resampler for it; WrongValue otherwise."""
    if value not in SCALES:
        raise WrongValue(f"scale {value:g}", f"one of {', '.join(f'{s:g}' for s in SCALES)}")
    return value


Scale = Annotated[
    float, AfterValidator(_known_scale), Field(json_schema_extra={"enum": list(SCALES)})
]


class DetectorOptions(Options):
    """What every detector reads: the tower's tokens, the shared path, inference, the guard."""

    only_with: ClassVar[Mapping[str, Needs]] = {
        "guard_threshold": GUARDED,
        "guard_overlap": GUARDED,
    }
    later: ClassVar[frozenset[str]] = GUARD

    # The frozen tower
    dense: Literal["auto", "maskclip", "clipself", "catseg", "tokens", "attnpool"] = Field(
        "auto", description="How dense tokens are read off the frozen tower; auto: by its family."
    )

    # The shared path: pyramid, proposals, RoI layers, box regression
    scales: tuple[Scale, ...] = Field(
        (2.0, 1.0, 0.5),
        min_length=1,
        max_length=8,
        description="Resampling of each level against the token grid (F-ViT: 4, 2, 1, 0.5).",
    )
    channels: int = Field(64, ge=8, le=4096, description="Channels of the pyramid (F-ViT: 256).")
    extra_level: bool = Field(
        False, description="Append a level by max-pooling the last (F-ViT has five levels)."
    )
    anchor_size: float = Field(
        4.0, gt=0, le=1000, description="Anchor side in units of the level's stride (F-ViT: 8)."
    )
    roi_convs: int = Field(1, ge=0, le=32, description="3x3 RoI convolutions, of all classes.")
    fc_width: int = Field(
        256, ge=8, le=65_536, description="Width of the fully connected RoI layers."
    )
    rpn_batch: int = Field(
        128, ge=8, le=100_000, description="Anchors sampled per image for the RPN loss."
    )
    roi_batch: int = Field(
        32, ge=4, le=100_000, description="Regions sampled per image for the RoI losses."
    )
    roi_positive: float = Field(0.25, gt=0, lt=1, description="Share of positive regions in them.")
    proposals_train: int = Field(
        100, ge=1, le=100_000, description="Proposals kept per image in training."
    )
    proposals_test: int = Field(
        60, ge=1, le=100_000, description="Proposals kept per image at inference."
    )
    score_threshold: float = Field(0.01, ge=0, lt=1, description="Detections below are dropped.")
    nms: float = Field(0.5, gt=0, le=1, description="IoU of the per-class suppression.")
    detections: int = Field(100, ge=1, le=100_000, description="Detections kept per image.")
    temperature: float = Field(
        50.0, gt=0, description="Initial scale of the cosine logits of regions against texts."
    )

    # Fusion with the frozen CLIP at inference
    fusion: float = Field(
        0.0, ge=0, le=1, description="Weight a of the frozen CLIP score: p^(1-a) * p_clip^a."
    )

    # What the previous model says about a new task's images
    relegation_guard: Literal["off", "ignore", "pseudo"] = Field(
        "off",
        description="Confident detections of the previous model on a new task's images: "
        "background, left out of the losses of proposals and regions, or labelled as objects.",
    )
    guard_threshold: float = Field(0.5, ge=0, le=1, description="Smallest score of such a claim.")
    guard_overlap: float = Field(
        0.5, gt=0, le=1, description="A claim with more IoU with a labelled object is that object."
    )
