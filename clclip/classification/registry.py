"""The classification methods by name; torch-free.

SECA and its baselines are sets of defaults for one learner. An experiment may change each option of
a method: ``hpeft`` and ``seca`` therefore share every setting that they do not differ in by
definition. The closed-form classifiers are another such system.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.options import ClassificationOptions
from clclip.classification.rapf.options import RapfOptions
from clclip.classification.vis.options import VisOptions
from clclip.classification.zeroshot.options import ZeroShotOptions
from clclip.core.kind import Method, method_of

Role = Literal["method", "baseline", "upper bound"]
TEXT_ONLY: dict[str, Any] = {"distillation": "none", "classifier": "text"}


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
        learner,
        ClassificationOptions,
        label,
        role,
        defining,
        trains=trains,
        colour=colour,
        numbers=frozenset(),
    )


def _solved(label: str, **defining: Any) -> Method:
    """Return the facts of a closed-form classifier."""
    return Method(
        "classification.closed_form.learner.Solved",
        ClosedFormOptions,
        label,
        defining=defining,
        stages="clclip.classification.closed_form.stages",
        closed_form=True,
    )


METHODS: dict[str, Method] = {
    "finetune": _method("Fine-tuning", "baseline", visual="tower", prompt="template", **TEXT_ONLY),
    "magmax": _method("MagMax", visual="tower", prompt="template", merge="magmax", **TEXT_ONLY),
    "hpeft": _method("H-PEFT", "baseline", 1, **TEXT_ONLY),
    "zeroshot": Method(
        "classification.zeroshot.stages.ByText",
        ZeroShotOptions,
        "Zero-shot CLIP",
        "baseline",
        colour=2,
        stages="clclip.classification.zeroshot.stages",
        closed_form=True,
        reads_training=False,
    ),
    "hpeft_sgakt": _method("H-PEFT + SG-AKT", classifier="text"),
    "hpeft_sevpr": _method("H-PEFT + SE-VPR", distillation="none"),
    "seca": _method("SECA", colour=0),
    "seca_pp": _method("SECA++", replay="gaussian"),
    "joint": _method("Joint training", "upper bound", trains="all"),
    "ncm": _solved("Nearest mean", head="ncm"),
    "ridge": _solved("Ridge", head="ridge"),
    "ranpac": _solved("RanPAC", head="ridge", hidden=2000, normalise=False),
    "gda": _solved("LDA", head="gda"),
    "gda_text": _solved("LDA + text", head="gda_text"),
    "rapf": Method(
        "classification.rapf.stages.Adapted",
        RapfOptions,
        "RAPF",
        stages="clclip.classification.rapf.stages",
        closed_form=True,
        numbers=frozenset(),
    ),
    "vis": Method(
        "classification.vis.stages.Vis",
        VisOptions,
        "VIS",
        stages="clclip.classification.vis.stages",
        closed_form=True,
        numbers=frozenset(),
    ),
    "seca_cov": _solved(
        "SECA-Cov", head="joined", hidden=2000, mirror=True, spread=True, prior="text"
    ),
}


def method_options(method: str, given: Mapping[str, Any]) -> ClassificationOptions:
    """Return the defaults of a trained ``method`` with an experiment's own values over them.

    Raises:
        InputError: if there is no such method.
        pydantic.ValidationError: if an option is unknown or has a value out of range.
    """
    trained = {name: one for name, one in METHODS.items() if not one.closed_form}
    facts = method_of(trained, method)
    return ClassificationOptions(**{**facts.defining, **given})
