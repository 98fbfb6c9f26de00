"""The switches of the classification methods (``switches:`` in an experiment file); torch-free.

All methods are one system: a method is a set of defaults for these switches (`METHODS`), and an
experiment may change each of them. ``hpeft`` and ``seca`` therefore share every setting that they
do not differ in by definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from clclip.classification.closed_form.options import METHODS as CLOSED_FORM
from clclip.classification.closed_form.options import ClosedFormSwitches
from clclip.classification.rapf.options import METHODS as RAPF
from clclip.classification.rapf.options import RapfSwitches
from clclip.core.errors import InputError, nearest
from clclip.core.models import Strict


class ClassificationSwitches(Strict):
    """Switches of SECA and its baselines."""

    visual: Literal["frozen", "adapter", "tower"] = Field(
        "adapter", description="what is trained in the visual tower: nothing, adapters, all of it"
    )
    adapter_width: int = Field(16, ge=1, le=65_536, description="hidden units of an adapter")
    adapter_scale: float = Field(0.1, gt=0, description="factor s on an adapter's output")
    adapter_dropout: float = Field(0.1, ge=0, lt=1)
    prompt: Literal["learned", "template"] = Field(
        "learned", description="class names behind learned tokens (one set a task) or in a sentence"
    )
    prompt_length: int = Field(8, ge=1, le=64, description="learned tokens before the class name")
    prompt_lr: float = Field(0.5, gt=0, description="learning rate of the tokens, relative to lr")
    template: str = Field("a good photo of a {}.", description="sentence for prompt: template")
    distillation: Literal["none", "clip", "previous", "average", "sgakt"] = Field(
        "sgakt", description="teacher: none, raw CLIP, last snapshot, mean of the pool, SG-AKT"
    )
    pool: int = Field(5, ge=1, le=10_000, description="most adapter snapshots that are kept")
    evict: Literal["max_utility", "min_utility", "oldest"] = Field(
        "max_utility", description="which snapshot a full pool drops"
    )
    relevance: Literal["softmax_then_mean", "mean_then_softmax"] = "softmax_then_mean"
    beta_scale: float = Field(1.0, ge=0, description="distillation weight is beta_scale * (t - 1)")
    distillation_scale: float = Field(20.0, gt=0, description="1 / temperature of the distillation")
    classifier: Literal["text", "centroid", "adapted_centroid", "linear", "sevpr"] = Field(
        "sevpr", description="visual half of the classifier; text: there is none"
    )
    text_weight: float = Field(0.5, ge=0, le=1, description="weight of the text half")
    gamma: float | None = Field(
        None, gt=0, description="sharpness of the affinity; null: 1 / (2 sqrt(embed_dim))"
    )
    consistency: float = Field(1.0, ge=0, description="weight of L_reg")
    compare: Literal["current", "seen"] = Field(
        "current", description="classes in the softmaxes of all losses: the task's, or all seen"
    )
    training_scale: float | None = Field(
        None, gt=0, description="factor on cosines in cross-entropies; null: CLIP's own (100)"
    )
    inference_scale: float = Field(20.0, gt=0, description="factor on cosines in predictions")
    replay: Literal["none", "gaussian"] = "none"
    replay_samples: int = Field(
        10, ge=1, le=100_000, description="pseudo features a class and step"
    )
    covariance: Literal["full", "diagonal", "lowrank"] = "full"
    rank: int = Field(16, ge=1, le=100_000, description="directions kept by covariance: lowrank")

    @property
    def trains(self) -> bool:
        """Whether a task leaves anything behind at all; zero-shot does not."""
        used = (self.visual, self.prompt, self.classifier)
        return used != ("frozen", "template", "text")


FROM_FEATURES: tuple[tuple[dict[str, dict[str, Any]], type[Strict], str], ...] = (
    (CLOSED_FORM, ClosedFormSwitches, "clclip.classification.closed_form.stages"),
    (RAPF, RapfSwitches, "clclip.classification.rapf.stages"),
)
"""Methods that read a feature store: their table, the model of their switches, their stages."""

METHODS: dict[str, dict[str, Any]] = {
    "zeroshot": {
        "visual": "frozen",
        "prompt": "template",
        "distillation": "none",
        "classifier": "text",
    },
    "finetune": {
        "visual": "tower",
        "prompt": "template",
        "distillation": "none",
        "classifier": "text",
    },
    "hpeft": {"distillation": "none", "classifier": "text"},
    "hpeft_sgakt": {"classifier": "text"},
    "hpeft_sevpr": {"distillation": "none"},
    "seca": {},
    "seca_pp": {"replay": "gaussian"},
    "joint": {},
    **{method: switches for table, *_ in FROM_FEATURES for method, switches in table.items()},
}


def switch_model(method: str) -> type[Strict]:
    """Return the model of ``switches:`` for a method."""
    found = (model for table, model, _ in FROM_FEATURES if method in table)
    return next(found, ClassificationSwitches)


def from_features(kind: str, method: str) -> bool:
    """Tell whether a method reads a feature store and nothing else of the images."""
    return kind == "classification" and any(method in table for table, *_ in FROM_FEATURES)


def stages_of(method: str) -> str:
    """Return the module with the stages ``train`` and ``predict`` of a method."""
    found = (module for table, _, module in FROM_FEATURES if method in table)
    return next(found, "clclip.classification.stages")


def resolve_switches(method: str, given: Mapping[str, Any]) -> ClassificationSwitches:
    """Return the defaults of a trained ``method`` with the experiment's own values over them.

    Raises:
        InputError: if the method is unknown.
        pydantic.ValidationError: if a switch is unknown or has a value out of range.
    """
    trained = [name for name in METHODS if not from_features("classification", name)]
    if method not in trained:
        raise InputError(
            f"unknown method {method!r}{nearest(method, trained)}",
            "method",
            f"one of {', '.join(trained)}",
        )
    return ClassificationSwitches(**{**METHODS[method], **given})
