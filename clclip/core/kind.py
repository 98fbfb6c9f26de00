"""The two kinds of experiment, and which module each stage of a kind runs; torch-free."""

from __future__ import annotations

STAGES = {
    ("split", "detection"): "clclip.data.split",
    ("split", "classification"): "clclip.data.split",
    ("train", "detection"): "clclip.detection.stages.train",
    ("train", "classification"): "clclip.classification.stages",
    ("predict", "detection"): "clclip.detection.stages.train",
    ("predict", "classification"): "clclip.classification.stages",
    ("score", "detection"): "clclip.evaluation.score",
    ("score", "classification"): "clclip.evaluation.score",
}
"""(stage, kind) -> the module that does the work."""
