"""What CL-CLIP can be set to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from clclip.core.errors import WrongValue
from clclip.core.options import Needs, Positive
from clclip.detection.options.detector import GUARD, DetectorOptions

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
        "rest": {"shared": ("adapters",)},
        "path_start": {"shared": ("adapters",)},
        "drift": DRIFT,
        "drift_weight": DRIFT,
        "orthogonality_weight": {"orthogonality": ("regions", "maps")},
        # a path that is frozen, or one of the task's own, needs no guard
        "relegation_guard": {"shared": ("drift", "free")},
    }
    later: ClassVar[frozenset[str]] = GUARD.union(
        {"shared", "adapter", "path_start", "drift", "drift_weight", "rest"}
    )
    optional: ClassVar[Mapping[str, Any]] = dict(
        detach_experts=False,
        fusion_score="sigmoid",
        objectness=0.0,
        path_start="previous",
        rest=0.0,
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

    rest: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="A later task's path rests on images on which task 1's path sees none of its "
        "classes; so fitted that it would miss this share of a class's training images. 0: it "
        "never rests (ours).",
    )

    @field_validator("rest")
    @classmethod
    def _text_sees(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("text_score") is False:
            raise WrongValue(f"rest {value:g} without a text score", "text_score: true, or rest: 0")
        return value

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
