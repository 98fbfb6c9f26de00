"""What F-ViT and its kin can be set to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from clclip.core.options import Needs, Positive
from clclip.detection.options.detector import GUARD, DetectorOptions


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
