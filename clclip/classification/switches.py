"""The switches of the classification methods (``switches:`` in an experiment file); torch-free."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ClassificationSwitches(BaseModel):
    """Switches of SECA and its baselines."""

    model_config = ConfigDict(extra="forbid", frozen=True)
