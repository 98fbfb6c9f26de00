"""The options of the closed-form classifiers (``switches:`` in an experiment file); torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from clclip.classification.closed_form.texts import reads_text
from clclip.core.options import Needs, Options


class ClosedFormOptions(Options):
    """The classifiers that are solved from sums over frozen features."""

    only_with: ClassVar[Mapping[str, Needs]] = {
        "penalty": {"head": ("ridge", "joined")},
        "penalty_rule": {"penalty": (None,)},
        "prior": {"head": ("joined",)},
        "spread": {"head": ("ncm", "ridge", "gda", "joined")},  # texts are compared with features
    }
    optional: ClassVar[Mapping[str, Any]] = {"spread": False}
    modules: ClassVar[Mapping[str, Needs]] = {
        "clclip.classification.closed_form.gda_text": {"head": ("gda_text",)},
        "clclip.classification.closed_form.joining": {"head": ("gda_text", "joined")},
        "clclip.classification.closed_form.seca_cov": {"head": ("joined",)},
        "clclip.classification.closed_form.semantics": {"head": ("joined",)},
    }

    @property
    def reads_text(self) -> bool:
        """Whether the classifier reads the class texts."""
        return reads_text(self.head, self.prior)

    head: Literal["ncm", "ridge", "gda", "gda_text", "joined"] = Field(
        "ridge",
        description="nearest mean, ridge regression, discriminant analysis with a shared "
        "covariance, the same plus the text, or ridge and discriminant joined (seca_cov)",
    )
    hidden: int = Field(
        0, ge=0, le=100_000, description="random ReLU features of a ridge; 0: the features as such"
    )
    normalise: bool = Field(True, description="features of unit length (RanPAC's are not)")
    mirror: bool = Field(False, description="take every image and its mirror image")
    spread: bool = Field(
        False,
        description="the spread of an image's tokens beside its feature (twice as wide); not with "
        "gda_text",
    )
    penalty_rule: Literal["gcv", "holdout"] = Field(
        "gcv",
        description="ridge penalty by generalised cross-validation from the sums, or by the "
        "published rule: error on the last 20 % of the newest task's shuffled images",
    )
    penalty: float | None = Field(None, gt=0, description="ridge penalty; null: by penalty_rule")
    prior: Literal["none", "text"] = Field(
        "none",
        description="prior of the class means of a discriminant: none, or a Gaussian process over "
        "the class texts (SE-VPR under a covariance)",
    )
