"""The detection methods by name: the only place where a method is announced; torch-free.

A new method is one file in ``methods/``, its options where it has some (``options.py``), and one
entry here (docs/add-a-method.md). The name is then known to experiment files, to the plan, to every
stage and to the report, and nothing that other methods have made is made again: which code a task
runs is in its fingerprint method by method.
"""

from __future__ import annotations

from clclip.core.kind import Method
from clclip.detection.options import (
    ClClipOptions,
    FViTOptions,
    IorOptions,
    MmaOptions,
    ProtoOptions,
    PseudoOptions,
    ReplayOptions,
)

FVIT = "detection.methods.fvit.FViT"
CLCLIP = "detection.methods.clclip.detector.ClClip"

METHODS: dict[str, Method] = {
    "fvit": Method(FVIT, FViTOptions, "F-ViT", "baseline", colour=1),
    "fvit_current": Method(
        FVIT,
        FViTOptions,
        "F-ViT, current columns",
        "baseline",
        defining={"columns": "current"},
        first_task="fvit",
        colour=2,
    ),
    "fvit_mma": Method(
        "detection.methods.fvit_mma.MmaFViT", MmaOptions, "F-ViT + MMA", first_task="fvit"
    ),
    "fvit_pseudo": Method(
        "detection.methods.fvit_pseudo.PseudoFViT",
        PseudoOptions,
        "F-ViT + pseudo-labels",
        first_task="fvit",
    ),
    "fvit_replay": Method(
        "detection.methods.fvit_replay.ReplayFViT", ReplayOptions, "F-ViT + replay"
    ),
    "fvit_ior": Method("detection.methods.fvit_ior.detector.IorFViT", IorOptions, "F-ViT + IOR"),
    "fvit_proto": Method(
        "detection.methods.fvit_proto.ProtoFViT", ProtoOptions, "F-ViT + prototypes"
    ),
    "clclip": Method(CLCLIP, ClClipOptions, "CL-CLIP", colour=0),
    "clclip_paper": Method(
        CLCLIP,
        ClClipOptions,
        "CL-CLIP as published",
        defining={
            "text_score": False,
            "shared": "drift",
            "drift": "feature",
            "orthogonality": "regions",
        },
        alias="clclip",
    ),
    "joint": Method(FVIT, FViTOptions, "Joint training", "upper bound", trains="all"),
}
