"""The classification methods by name: each is a set of defaults for one system; torch-free.

An experiment may change each option of a method. ``hpeft`` and ``seca`` therefore share every
setting that they do not differ in by definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from clclip.classification.options import ClassificationOptions
from clclip.core.kind import Method, method_of

Role = Literal["method", "baseline", "upper bound"]
TEXT_ONLY = {"distillation": "none", "classifier": "text"}


def _method(
    label: str,
    role: Role = "method",
    colour: int | None = None,
    trains: Literal["last", "all"] = "last",
    **defining: Any,
) -> Method:
    """Return the facts of a method; all are one learner."""
    learner = "classification.seca.learner.Learner"
    return Method(
        learner, ClassificationOptions, label, role, defining, trains=trains, colour=colour
    )


METHODS: dict[str, Method] = {
    "finetune": _method("Fine-tuning", "baseline", visual="tower", prompt="template", **TEXT_ONLY),
    "hpeft": _method("H-PEFT", "baseline", 1, **TEXT_ONLY),
    "zeroshot": _method(
        "Zero-shot CLIP", "baseline", 2, visual="frozen", prompt="template", **TEXT_ONLY
    ),
    "hpeft_sgakt": _method("H-PEFT + SG-AKT", classifier="text"),
    "hpeft_sevpr": _method("H-PEFT + SE-VPR", distillation="none"),
    "seca": _method("SECA", colour=0),
    "seca_pp": _method("SECA++", replay="gaussian"),
    "joint": _method("Joint training", "upper bound", trains="all"),
}


def method_options(method: str, given: Mapping[str, Any]) -> ClassificationOptions:
    """Return the defaults of ``method`` with an experiment's own values over them.

    Raises:
        InputError: if the method is unknown.
        pydantic.ValidationError: if an option is unknown or has a value out of range.
    """
    found = method_of(METHODS, method)
    return ClassificationOptions(**{**found.defining, **given})
