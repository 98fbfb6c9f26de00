"""The detection methods by name: the only place where a method is announced; torch-free.

A new method is one file in ``methods/``, its options where it has some (``options.py``), and one
entry here (docs/add-a-method.md). The name is then known to experiment files, to the plan, to every
stage and to the report, and nothing that other methods have made is made again: which code a task
runs is in its fingerprint method by method.
"""

from __future__ import annotations

from clclip.core.kind import Method
from clclip.detection.options.clclip import ClClipOptions
from clclip.detection.options.detector import GUARDED
from clclip.detection.options.fvit import (
    FViTOptions,
    IorOptions,
    MmaOptions,
    ProtoOptions,
    PseudoOptions,
    ReplayOptions,
)

FVIT = "detection.methods.fvit.FViT"
CLCLIP = "detection.methods.clclip.detector.ClClip"

# What a finished detector alone reads. `tests/unit/detection/test_inference_options.py` trains with
# several values of each. A teacher proposes by `proposals_test`, and detects by all of them.
DETECTED = frozenset("score_threshold nms detections fusion".split())
SELECTION = DETECTED | {"fusion_temperature"}  # of F-ViT and its kin
INFERENCE = SELECTION | {"proposals_test"}
ROUTED = DETECTED | frozenset(
    "proposals_test fusion_score route_cap route_probability objectness".split()
)
# Draws are by the numbers of images; of a box training reads its place in the file alone.
IMAGES = frozenset({"images"})

METHODS: dict[str, Method] = {
    "fvit": Method(
        FVIT,
        FViTOptions,
        "F-ViT",
        "baseline",
        colour=1,
        inference=INFERENCE,
        detects=GUARDED,
        numbers=IMAGES,
    ),
    "fvit_current": Method(
        FVIT,
        FViTOptions,
        "F-ViT, current columns",
        "baseline",
        defining={"columns": "current"},
        first_task="fvit",
        colour=2,
        inference=INFERENCE,
        detects=GUARDED,
        numbers=IMAGES,
    ),
    "fvit_mma": Method(
        "detection.methods.fvit_mma.MmaFViT",
        MmaOptions,
        "F-ViT + MMA",
        first_task="fvit",
        inference=SELECTION,
        detects=GUARDED,
        numbers=IMAGES,
    ),
    "fvit_pseudo": Method(
        "detection.methods.fvit_pseudo.PseudoFViT",
        PseudoOptions,
        "F-ViT + pseudo-labels",
        first_task="fvit",
        numbers=IMAGES,
    ),
    "fvit_replay": Method(
        "detection.methods.fvit_replay.ReplayFViT",
        ReplayOptions,
        "F-ViT + replay",
        inference=SELECTION,
        detects=GUARDED,
        numbers=IMAGES,
    ),
    "fvit_ior": Method(
        "detection.methods.fvit_ior.detector.IorFViT",
        IorOptions,
        "F-ViT + IOR",
        inference=SELECTION,
        detects={**GUARDED, "invert_accept": (True,)},
        numbers=IMAGES,
    ),
    "fvit_proto": Method(
        "detection.methods.fvit_proto.ProtoFViT",
        ProtoOptions,
        "F-ViT + prototypes",
        inference=SELECTION,
        detects=GUARDED,
        numbers=IMAGES,
    ),
    "clclip": Method(
        CLCLIP,
        ClClipOptions,
        "CL-CLIP",
        colour=0,
        inference=ROUTED,
        detects=GUARDED,
        numbers=IMAGES,
    ),
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
    "joint": Method(
        FVIT,
        FViTOptions,
        "Joint training",
        "upper bound",
        trains="all",
        inference=INFERENCE,
        detects=GUARDED,
        numbers=IMAGES,
    ),
}
