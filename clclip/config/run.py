"""What to run and how to report it: the keys of ``config/config.yaml``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from clclip.core.errors import InputError, WrongValue
from clclip.core.machine import Speed
from clclip.core.models import Strict, as_list, check_seeds


def read_seeds(text: str) -> list[int]:
    """Read the seeds of the option ``--seeds``.

    Raises:
        InputError: if they are no seeds.
    """
    part = ""
    try:
        return check_seeds([int(part := one) for one in as_list(text)])
    except WrongValue as error:
        raise InputError(error.what, "--seeds", error.expected) from None
    except ValueError:
        raise InputError(f"{part!r:.60}", "--seeds", "numbers, e.g. 0,1,2") from None


class ReportStyle(Strict):
    """How the report looks; a change of it reruns the report only."""

    title: str = Field(
        "What was learned, what was forgotten", max_length=200, description="title of the page"
    )
    dpi: int = Field(120, ge=30, le=600, description="resolution of raster figures")
    format: Literal["svg", "png"] = Field(
        "svg", description="format of the figures beside the page"
    )
    examples: int = Field(8, ge=0, le=50, description="test images shown with their detections")
    palette: str = Field(
        "okabe_ito", max_length=50, description="colours: okabe_ito or a colour map of matplotlib"
    )


class RunConfig(Strict):
    """``config/config.yaml``: which experiments run, and how they are reported."""

    experiments: list[str | dict[str, Any]] = Field(
        min_length=1,
        description="names (STREAM_METHOD[_VARIANT...]), experiment files, or what such a file "
        "would hold, with a name",
    )
    seeds: list[int] | None = Field(None, description="replaces every experiment's seeds")
    data_root: str | None = Field(None, description="folder that relative data roots start from")
    wandb: Literal["off", "offline", "online"] = Field("off", description="log to Weights & Biases")
    report: ReportStyle = Field(ReportStyle(), description="looks of the report")
    speed: Speed = Field(Speed(), description="how this machine is used; changes no result")

    @field_validator("experiments", mode="before")
    @classmethod
    def _experiments(cls, value: Any) -> Any:
        return as_list(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seed_list(cls, value: Any) -> Any:
        return None if value is None else as_list(value)

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: list[int] | None) -> list[int] | None:
        return None if value is None else check_seeds(value)

    @field_validator("wandb", mode="before")
    @classmethod
    def _yaml_off(cls, value: Any) -> Any:
        """YAML reads a bare ``off`` as false."""
        return "off" if value is False else value
