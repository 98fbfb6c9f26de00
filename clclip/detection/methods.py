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
        code: the detector, as ``file.Class`` in this folder.
        switches: the switches that define it, beneath those of the experiment file.
    """

    code: str
    switches: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The dotted name of the detector's file."""
        return f"clclip.detection.{self.code.partition('.')[0]}"


METHODS: dict[str, Method] = {
    "fvit": Method("fvit.FViT"),
    "fvit_current": Method("fvit.FViT", {"columns": "current"}),
    "fvit_mma": Method("mma.MmaFViT"),
    "fvit_pseudo": Method("pseudo.PseudoFViT"),
    "fvit_replay": Method("replay.ReplayFViT"),
    "fvit_ior": Method("ior.IorFViT"),
    "clclip": Method("clclip.ClClip"),
    "joint": Method("fvit.FViT"),
}
