"""The options of the classification methods (``switches:`` in an experiment file); torch-free.

All methods are one system: a method is a set of defaults for these options (``registry.py``), and
an experiment may change each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from clclip.core.options import Needs, Options

ADAPTER = {"visual": ("adapter",)}
LEARNED = {"prompt": ("learned",)}
DISTILLED = {"distillation": ("clip", "previous", "average", "sgakt")}
CLASSIFIERS = ("gda", "ranpac")  # solved from statistics of all tasks
BY_STATISTICS = {"classifier": CLASSIFIERS}
SEVPR = {"classifier": ("sevpr",), "visual_loss": ("sevpr",)}
GAUSSIAN = {"replay": ("gaussian",)}
TRAINED = {"visual": ("adapter", "tower")} | LEARNED | SEVPR


class ClassificationOptions(Options):
    """SECA and its baselines."""

    only_with: ClassVar[Mapping[str, Needs]] = {
        "adapter_width": ADAPTER,
        "adapter_scale": ADAPTER,
        "adapter_dropout": ADAPTER,
        "prompt_length": LEARNED,
        "prompt_lr": LEARNED,
        "merge": {"visual": ("tower",)},
        "merge_scale": {"merge": ("magmax", "mean")},
        "template": {"prompt": ("template",)},
        "distillation": ADAPTER,  # teachers are snapshots of adapters
        "pool": {"distillation": ("average", "sgakt")},
        "evict": {"distillation": ("sgakt",)},
        "relevance": {"distillation": ("sgakt",)},
        "beta_scale": DISTILLED,
        "distillation_scale": DISTILLED,
        "text_weight": {"classifier": ("centroid", "adapted_centroid", "linear", "sevpr")},
        "visual_loss": BY_STATISTICS,
        "random_features": {"classifier": ("ranpac",)},
        "join": BY_STATISTICS,
        "adapt": BY_STATISTICS,
        "statistics": {"adapt": ("all",)},
        "gamma": SEVPR,
        "consistency": SEVPR,
        "compare": TRAINED,
        "training_scale": TRAINED | {"classifier": ("linear", "sevpr")},
        "replay": LEARNED | SEVPR,
        "replay_samples": GAUSSIAN,
        "covariance": GAUSSIAN,
        "rank": {"covariance": ("lowrank",)},
    }
    modules: ClassVar[Mapping[str, Needs]] = {
        "clclip.classification.seca.merging": {"merge": ("magmax", "mean")},
        "clclip.classification.seca.parts.replay": GAUSSIAN,
        "clclip.classification.seca.parts.teacher": DISTILLED,
        "clclip.classification.seca.replay": GAUSSIAN,
        "clclip.classification.seca.sevpr": {"classifier": ("sevpr", *CLASSIFIERS)},
        "clclip.classification.seca.sgakt": DISTILLED,
        "clclip.classification.seca.statistics": BY_STATISTICS,
    }
    across_tasks: ClassVar[frozenset[str]] = frozenset(
        "distillation pool evict relevance beta_scale distillation_scale consistency compare "
        "replay replay_samples covariance rank merge merge_scale adapt "
        "statistics".split()
    )

    visual: Literal["frozen", "adapter", "tower"] = Field(
        "adapter", description="what is trained in the visual tower: nothing, adapters, all of it"
    )
    adapter_width: int = Field(16, ge=1, le=65_536, description="hidden units of an adapter")
    adapter_scale: float = Field(0.1, gt=0, description="factor s on an adapter's output")
    adapter_dropout: float = Field(
        0.1, ge=0, lt=1, description="dropout of an adapter's hidden units in training"
    )
    merge: Literal["none", "magmax", "mean"] = Field(
        "none",
        description="tower that classifies: the last task's, or CLIP's plus each weight's largest "
        "(MagMax) or mean change over the tasks",
    )
    merge_scale: float | None = Field(
        None, gt=0, le=10, description="factor on merged changes; null: 0.5 for magmax, 1 for mean"
    )
    prompt: Literal["learned", "template"] = Field(
        "learned", description="class names behind learned tokens (one set a task) or in a sentence"
    )
    prompt_length: int = Field(8, ge=1, le=64, description="learned tokens before the class name")
    prompt_lr: float = Field(0.5, gt=0, description="learning rate of the tokens, relative to lr")
    template: str = Field("a good photo of a {}.", description="sentence around a class name")
    distillation: Literal["none", "clip", "previous", "average", "sgakt"] = Field(
        "sgakt", description="teacher: none, raw CLIP, last snapshot, mean of the pool, SG-AKT"
    )
    pool: int = Field(5, ge=1, le=10_000, description="largest number of stored adapter snapshots")
    evict: Literal["max_utility", "min_utility", "oldest"] = Field(
        "max_utility", description="which snapshot a full pool drops"
    )
    relevance: Literal["softmax_then_mean", "mean_then_softmax"] = Field(
        "softmax_then_mean",
        description="how SG-AKT joins the snapshots' weights of several prompts: as the released "
        "code, or as the paper",
    )
    beta_scale: float = Field(1.0, ge=0, description="distillation weight is beta_scale * (t - 1)")
    distillation_scale: float = Field(20.0, gt=0, description="1 / temperature of the distillation")
    classifier: Literal[
        "text", "centroid", "adapted_centroid", "linear", "sevpr", "gda", "ranpac"
    ] = Field(
        "sevpr",
        description="visual half of the classifier; text: there is none; gda, ranpac: closed forms "
        "over adapted features",
    )
    visual_loss: Literal["sevpr", "none"] = Field(
        "sevpr", description="loss beside the text's where the classifier is a closed form"
    )
    random_features: int = Field(
        2000, ge=1, le=100_000, description="random ReLU features of the ridge"
    )
    join: Literal["visual", "fitted"] = Field(
        "visual", description="a closed form alone, or with the text half, its weight fitted"
    )
    adapt: Literal["all", "first"] = Field(
        "all", description="tasks that train the adapters where the classifier is a closed form"
    )
    statistics: Literal["kept", "moved"] = Field(
        "moved",
        description="stored features of older tasks: as they were, or moved by the drift that the "
        "newest task's own images show",
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
    replay: Literal["none", "gaussian"] = Field(
        "none", description="pseudo features of old classes, drawn from a Gaussian each (SECA++)"
    )
    replay_samples: int = Field(
        10, ge=1, le=100_000, description="pseudo features a class and step"
    )
    covariance: Literal["full", "diagonal", "lowrank"] = Field(
        "full", description="what a class's Gaussian stores of its covariance"
    )
    rank: int = Field(16, ge=1, le=100_000, description="stored directions of covariance: lowrank")
