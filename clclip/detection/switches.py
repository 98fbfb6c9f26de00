"""The switches of the detection methods (``switches:`` in an experiment file); torch-free."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class DetectionSwitches(BaseModel):
    """Switches of F-ViT and CL-CLIP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # The frozen tower
    dense: Literal["auto", "maskclip", "clipself", "catseg", "tokens", "attnpool"] = Field(
        "auto", description="How dense tokens are read off the frozen tower; auto: by its family."
    )

    # The shared path: pyramid, proposals, RoI layers, box regression
    scales: tuple[float, ...] = Field(
        (2.0, 1.0, 0.5),
        description="Resampling of each level against the token grid (F-ViT: 4, 2, 1, 0.5).",
    )
    channels: int = Field(64, ge=8, description="Channels of the pyramid (F-ViT: 256).")
    extra_level: bool = Field(
        False, description="Append a level by max-pooling the last (F-ViT has five levels)."
    )
    anchor_size: float = Field(
        4.0, gt=0, description="Anchor side in units of the level's stride (F-ViT: 8)."
    )
    roi_convs: int = Field(1, ge=0, description="3x3 convolutions shared by all classes per RoI.")
    fc_width: int = Field(256, ge=8, description="Width of the fully connected RoI layers.")
    rpn_batch: int = Field(128, ge=8, description="Anchors sampled per image for the RPN loss.")
    roi_batch: int = Field(32, ge=4, description="Regions sampled per image for the RoI losses.")
    roi_positive: float = Field(0.25, gt=0, lt=1, description="Share of positive regions in them.")
    proposals_train: int = Field(100, ge=1, description="Proposals kept per image in training.")
    proposals_test: int = Field(60, ge=1, description="Proposals kept per image at inference.")
    score_threshold: float = Field(0.01, ge=0, lt=1, description="Detections below are dropped.")
    nms: float = Field(0.5, gt=0, le=1, description="IoU of the per-class suppression.")
    detections: int = Field(100, ge=1, description="Detections kept per image.")

    # F-ViT's classifier
    columns: Literal["all", "current"] = Field(
        "all", description="F-ViT: the training softmax spans all seen classes or the current ones."
    )
    temperature: float = Field(50.0, gt=0, description="F-ViT: initial scale of the cosine logits.")

    # Fusion with the frozen CLIP at inference
    fusion: float = Field(
        0.0, ge=0, le=1, description="Weight a of the frozen CLIP score: p^(1-a) * p_clip^a."
    )

    # CL-CLIP: gate and decoupling
    gate: Literal["sigmoid", "minmax", "softmax", "off"] = Field(
        "sigmoid", description="How the cost volume is squashed; off: no decoupling."
    )
    gate_floor: float = Field(0.1, ge=0, le=1, description="eps of F * (eps + gate).")
    refiner: bool = Field(
        False, description="Refine the cost volume by a small net shared by all classes."
    )

    # CL-CLIP: experts
    experts: bool = Field(True, description="One expert per class; false: one shared by all.")
    expert_width: int = Field(32, ge=4, description="Channels of an expert.")
    expert_depth: int = Field(2, ge=1, description="3x3 convolutions of an expert.")
    expert_box: bool = Field(False, description="Experts refine the box per class.")
    negatives: int = Field(
        2, ge=1, description="Classes per region taught as negatives: those of the highest prior."
    )
    score_loss: Literal["bce", "focal"] = Field("bce", description="Loss of the expert scores.")
    route: Literal["prior", "all"] = Field(
        "prior", description="Score a pair only above its class's own threshold, or every pair."
    )
    route_recall: float = Field(
        0.99, gt=0, le=1, description="Share of a class's training regions its threshold keeps."
    )
    route_cap: int = Field(0, ge=0, description="At most so many classes per region; 0: no cap.")

    # CL-CLIP: the shared path across tasks
    shared: Literal["drift", "free", "frozen", "adapters"] = Field(
        "adapters", description="What protects the shared path after task 1."
    )
    adapter: Literal["copy", "residual"] = Field(
        "copy", description="shared: adapters - a full copy of the path, or residual convolutions."
    )
    drift: Literal["feature", "parameter", "both"] = Field(
        "feature", description="shared: drift - what is held in place."
    )
    drift_weight: float = Field(3.0, ge=0, description="lambda_drift.")
    orthogonality: Literal["regions", "maps", "off"] = Field(
        "regions", description="Where cross-class co-activation is penalised."
    )
    orthogonality_weight: float = Field(0.1, ge=0, description="lambda_orth.")


METHOD_SWITCHES: dict[str, dict[str, Any]] = {
    "fvit": {"columns": "all"},
    "fvit_current": {"columns": "current"},
    "joint": {"columns": "all"},
    "clclip": {},
}
"""Method name -> the switches that define it, beneath those of the experiment file."""
