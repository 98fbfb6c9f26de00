"""The options of the detection methods (``switches:`` in an experiment file); torch-free.

One class per detector, and they inherit as the detectors do: an option belongs to the methods that
read it, and a new one is in no other method's task.json. CL-CLIP's stand in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from clclip.core.errors import WrongValue
from clclip.core.options import Needs, Options, Positive

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


class TwoStageOptions(DetectorOptions):
    """F-ViT and its kin: how softly the frozen CLIP holds one class against another."""

    only_with: ClassVar[Mapping[str, Needs]] = {
        **DetectorOptions.only_with,
        "fusion_temperature": {"fusion": Positive()},
    }
    optional: ClassVar[Mapping[str, Any]] = {"fusion_temperature": 75.0}

    fusion_temperature: float = Field(
        75.0,
        gt=0,
        le=1000,
        description="Scale of the cosines in the softmax that is p_clip (F-ViT: 75); a lower one "
        "is softer.",
    )


class FViTOptions(TwoStageOptions):
    """F-ViT: its classifier's training softmax besides."""

    later: ClassVar[frozenset[str]] = GUARD | {"columns"}

    columns: Literal["all", "current"] = Field(
        "all", description="The training softmax spans all seen classes or the current ones."
    )


class PseudoOptions(FViTOptions):
    """``fvit_pseudo``: from which score on a detection of the previous model is a label."""

    only_with: ClassVar[Mapping[str, Needs]] = {
        key: needs for key, needs in FViTOptions.only_with.items() if key != "guard_overlap"
    }  # pseudo-labels have an overlap without a guard too
    later: ClassVar[frozenset[str]] = FViTOptions.later | {"pseudo_threshold"}

    pseudo_threshold: float = Field(
        0.75, ge=0, le=1, description="Smallest score of a pseudo-label (BPF: 0.75)."
    )


class DistilledOptions(TwoStageOptions):
    """Distillation of regions from the model before the task."""

    later: ClassVar[frozenset[str]] = GUARD | {"distil_weight"}

    distil_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of region distillation; null: as published (MMA and ABR by the number "
        "of new classes, IOR 1).",
    )


class MmaOptions(DistilledOptions):
    """``fvit_mma``: distillation of proposals besides."""

    later: ClassVar[frozenset[str]] = DistilledOptions.later | {"distil_rpn_weight"}

    distil_rpn_weight: float = Field(1.0, ge=0, description="Weight of proposal distillation.")


class ProtoOptions(DistilledOptions):
    """``fvit_proto``: the prototypes, and what keeps their features."""

    later: ClassVar[frozenset[str]] = DistilledOptions.later | {
        "distil_rpn_weight",
        "proto_weight",
        "align_weight",
    }

    distil_rpn_weight: float = Field(1.0, ge=0, description="Weight of proposal distillation.")
    proto_fine: int = Field(
        8, ge=0, le=1000, description="Fine prototypes of a class, beside its coarse one."
    )
    proto_weight: float = Field(
        1.0, ge=0, description="Weight w_p of the classifier's loss on old prototypes."
    )
    align_weight: float = Field(
        1.0, ge=0, description="Weight w_a of the change of region features at old proposals."
    )


class ReplayOptions(DistilledOptions):
    """``fvit_replay``: attentive distillation, and the remembered boxes."""

    later: ClassVar[frozenset[str]] = DistilledOptions.later | {
        "attentive_weight",
        "attentive_gamma",
        "old_label",
    }

    attentive_weight: float | None = Field(
        None, ge=0, description="Weight of L_ARD; null: 0.5 from 10 new classes on, else 1."
    )
    attentive_gamma: float = Field(
        1.0, ge=0, description="Weight of attention maps in L_ARD (ABR: 0.5 to 5)."
    )
    memory: int = Field(
        200, ge=1, le=1_000_000, description="Boxes remembered, of all classes (ABR, VOC: 2000)."
    )
    memory_min_side: int = Field(
        0, ge=0, description="Boxes not larger than this many px both ways are not kept (ABR: 70)."
    )
    old_label: Literal["ce", "zero"] = Field(
        "ce",
        description="Class loss of replayed regions: cross-entropy, or none as in ABR's code.",
    )


class IorOptions(DistilledOptions):
    """``fvit_ior``: how objects are inverted."""

    later: ClassVar[frozenset[str]] = DistilledOptions.later | {
        "invert_objects",
        "invert_steps",
        "invert_accept",
    }

    invert_objects: int = Field(
        5, ge=1, le=100_000, description="Objects inverted per class (IOR: 10)."
    )
    invert_steps: int = Field(
        200, ge=1, le=1_000_000, description="Steps of the inversion (IOR: 2000)."
    )
    invert_size: int = Field(
        64, ge=16, le=4096, description="Canvas of the inversion in px (IOR: 160; ViT-B/16: 224)."
    )
    invert_accept: bool = Field(
        False, description="Keep only objects that the model detects again (IOR keeps all)."
    )
