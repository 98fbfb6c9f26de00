"""The options of the detection methods (``switches:`` in an experiment file); torch-free.

One class per detector, and they inherit as the detectors do: an option belongs to the methods that
read it, and a new one is in no other method's task.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

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


class FViTOptions(DetectorOptions):
    """F-ViT: its classifier's training softmax besides."""

    later: ClassVar[frozenset[str]] = GUARD | {"columns"}

    columns: Literal["all", "current"] = Field(
        "all", description="The training softmax spans all seen classes or the current ones."
    )


class PseudoOptions(FViTOptions):
    """``fvit_pseudo``: from which score on a detection of the previous model is a label."""

    only_with: ClassVar[Mapping[str, Needs]] = {
        "guard_threshold": GUARDED
    }  # pseudo-labels have an overlap without a guard too
    later: ClassVar[frozenset[str]] = FViTOptions.later | {"pseudo_threshold"}

    pseudo_threshold: float = Field(
        0.75, ge=0, le=1, description="Smallest score of a pseudo-label (BPF: 0.75)."
    )


class DistilledOptions(DetectorOptions):
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


GATED = {"gate": ("sigmoid", "minmax", "softmax")}
DRIFT = {"shared": ("drift",)}


class ClClipOptions(DetectorOptions):
    """CL-CLIP: the gate, the experts, and what protects the shared path."""

    only_with: ClassVar[Mapping[str, Needs]] = {
        **DetectorOptions.only_with,
        "temperature": {"text_score": (True,)},
        "text_weight": {"text_score": (True,)},
        "detach_experts": {"text_score": (True,)},
        "gate_floor": GATED,
        "refiner": GATED,
        "fusion_score": {"fusion": Positive()},
        "expert_box": {"experts": (True,)},
        "route": {"experts": (True,)},
        "route_recall": {"route": ("share", "prior", "text")},
        "route_probability": {"route": ("text",)},
        "adapter": {"shared": ("adapters",)},
        "path_start": {"shared": ("adapters",)},
        "drift": DRIFT,
        "drift_weight": DRIFT,
        "orthogonality_weight": {"orthogonality": ("regions", "maps")},
        # a path that is frozen, or one of the task's own, needs no guard
        "relegation_guard": {"shared": ("drift", "free")},
    }
    later: ClassVar[frozenset[str]] = GUARD.union(
        {"shared", "adapter", "path_start", "drift", "drift_weight"}
    )
    optional: ClassVar[Mapping[str, Any]] = dict(
        detach_experts=False,
        fusion_score="sigmoid",
        objectness=0.0,
        path_start="previous",
        text_weight=0.4,
    )

    # Gate and decoupling
    gate: Literal["sigmoid", "minmax", "softmax", "off"] = Field(
        "sigmoid", description="How the cost volume is squashed; off: no decoupling."
    )
    gate_floor: float = Field(0.5, ge=0, le=1, description="eps of F * (eps + gate).")
    refiner: bool = Field(
        False, description="Refine the cost volume by a small net shared by all classes."
    )

    # Experts
    experts: bool = Field(True, description="One expert per class; false: one shared by all.")
    expert_width: int = Field(32, ge=4, le=4096, description="Channels of an expert.")
    expert_depth: int = Field(2, ge=1, le=32, description="3x3 convolutions of an expert.")
    expert_box: bool = Field(False, description="Experts refine the box per class.")
    negatives: int = Field(
        1, ge=1, description="Classes per region used as negatives: those of the highest prior."
    )
    text_score: bool = Field(
        True,
        description="A pair's score is the weighted mean of its expert's log-odds and of those of "
        "its region by a text classifier of the path, against background and earlier classes "
        "(ours, not published).",
    )
    text_weight: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Weight of these log-odds in the mean with the experts' when a trained task "
        "detects; while it is trained it is 0.1.",
    )
    detach_experts: bool = Field(
        False, description="Experts read the path's features without training them (ours)."
    )
    score_loss: Literal["bce", "focal"] = Field("focal", description="Loss of the expert scores.")
    route: Literal["share", "prior", "text", "all"] = Field(
        "share",
        description="Score a pair if its class's share of the region among its task's classes, or "
        "its prior, exceeds the class's own threshold; text: by share, and then by the path's own "
        "text classifier (needs text_score), which must be trained well; or score every pair.",
    )
    route_recall: float = Field(
        0.999,
        gt=0,
        le=1,
        description="Share of a class's regions that its threshold keeps, fitted to training's.",
    )
    route_probability: float = Field(
        0.003,
        gt=0,
        lt=1,
        description="route: text - smallest probability of a pair's class against that of the "
        "likeliest of its task's classes, earlier ones and background.",
    )
    fusion_score: Literal["sigmoid", "share"] = Field(
        "sigmoid",
        description="p_clip of a pair: the squashed prior, or its class's share of the region "
        "among its task's classes, earlier ones and none of them (ours).",
    )
    route_cap: int = Field(0, ge=0, description="At most so many classes per region; 0: no cap.")

    @field_validator("route")
    @classmethod
    def _text_has_a_classifier(cls, value: str, info: ValidationInfo) -> str:
        if value == "text" and info.data.get("text_score") is False:
            raise WrongValue("route text without a text score", "text_score: true, or route: share")
        return value

    objectness: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Smallest objectness of a proposal that a path looks at when it detects; a "
        "path without any rests on the image (ours).",
    )

    # The shared path across tasks
    shared: Literal["drift", "free", "frozen", "adapters"] = Field(
        "adapters", description="What protects the shared path after task 1."
    )
    adapter: Literal["copy", "residual"] = Field(
        "copy", description="shared: adapters - a full copy of the path, or residual convolutions."
    )
    path_start: Literal["first", "previous"] = Field(
        "previous",
        description="shared: adapters - the task whose path a later one starts from (ours).",
    )
    drift: Literal["feature", "parameter", "both"] = Field(
        "feature", description="shared: drift - what is held in place."
    )
    drift_weight: float = Field(3.0, ge=0, description="lambda_drift.")
    orthogonality: Literal["regions", "maps", "off"] = Field(
        "regions", description="Where cross-class co-activation is penalised."
    )
    orthogonality_weight: float = Field(0.1, ge=0, description="lambda_orth.")
