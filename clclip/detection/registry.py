"""The detection methods by name: the only place where a method is announced; torch-free.

A new method is one file in this folder and one line here (docs/add-a-method.md). The name is then
known to experiment files, to the plan and to every stage, and nothing that other methods have made
is made again: which code a task runs is told to its fingerprint method by method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """What a name stands for.

    Attributes:
        code: the detector, as ``path.to.file.Class`` below this folder.
        switches: the switches that define it, beneath those of the experiment file.
    """

    code: str
    switches: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The dotted name of the detector's file."""
        return f"clclip.detection.{self.code.rpartition('.')[0]}"


METHODS: dict[str, Method] = {
    "fvit": Method("methods.fvit.FViT"),
    "fvit_current": Method("methods.fvit.FViT", {"columns": "current"}),
    "fvit_mma": Method("methods.fvit_mma.MmaFViT"),
    "fvit_pseudo": Method("methods.fvit_pseudo.PseudoFViT"),
    "fvit_replay": Method("methods.fvit_replay.ReplayFViT"),
    "fvit_ior": Method("methods.fvit_ior.detector.IorFViT"),
    "clclip": Method("methods.clclip.detector.ClClip"),
    "joint": Method("methods.fvit.FViT"),
}
