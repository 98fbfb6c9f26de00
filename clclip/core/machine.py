"""``speed:`` of a run: settings that decide time and memory, and no result but by rounding.

So none of them is in a task's plan: they reach the jobs through the environment, and a change
reruns nothing. Torch-free.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clclip.core.errors import InputError

VARIABLE = "CLCLIP_SPEED"
WANDB_VARIABLE = "CLCLIP_WANDB"  # off, offline or online: decides no result
WANDB_CHECKED_VARIABLE = "CLCLIP_WANDB_CHECKED"  # the run has seen that online works


class Speed(BaseModel):
    """How a machine is used; null: what was measured to be best on the kind of device."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefetch: int | None = Field(
        None,
        ge=0,
        le=64,
        description="training batches prepared ahead, in threads, into pinned memory (null: 2 with "
        "an accelerator, 0 on a CPU, whose cores have work)",
    )
    channels_last: bool | None = Field(
        None,
        description="convolutions of detectors in channels-last memory (null: with an accelerator, "
        "and on a CPU in bf16; in float32 a CPU was measured to be slower with it)",
    )
    experts: Literal["auto", "loop", "grouped", "blocks"] = Field(
        "auto",
        description="how experts run on their pairs (auto: loop on a CPU, blocks elsewhere; see "
        "benchmarks/expert_bank.py)",
    )
    checkpoint: bool = Field(
        False,
        description="compute pyramid, region layers and experts again in the backward pass "
        "instead of keeping them: for large images on a small device",
    )
    compile: bool = Field(
        False, description="torch.compile the frozen tower where features are computed as it goes"
    )
    tower_tokens: int = Field(
        32_768,
        ge=1,
        description="largest number of tokens in one pass of the frozen tower (one image at least)",
    )


def announce(given: Mapping[str, Any] | None) -> None:
    """Tell the jobs to come, by the environment."""
    os.environ[VARIABLE] = json.dumps(dict(given or {}), sort_keys=True)


def speed() -> Speed:
    """Return what the environment says, the defaults without it.

    Raises:
        InputError: if the environment holds something else.
    """
    return _read(os.environ.get(VARIABLE, "{}"))


@cache
def _read(text: str) -> Speed:
    try:
        return Speed.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{place or text!r}: {first['msg']}", VARIABLE, "what `speed` of a run's config holds"
        ) from None


def import_quickly(*modules: str) -> None:
    """Import modules that need torch or open_clip, in three quarters of the processor time.

    The garbage collector would walk through all that torch has made again and again; it is of no
    use while modules are loaded, and none of them is ever garbage. And timm, of open_clip, imports
    wandb for nothing but to know whether it is there.

    Args:
        modules: dotted names; those that are loaded already cost nothing.
    """
    wanted = [name for name in modules if name not in sys.modules]
    if not wanted:
        return
    collects, known = gc.isenabled(), "wandb" in sys.modules
    gc.disable()
    if not known:
        sys.modules["wandb"] = None  # type: ignore[assignment]  # as Python documents it: not there
    try:
        for name in wanted:
            importlib.import_module(name)
    finally:
        if not known:
            del sys.modules["wandb"]
        gc.freeze()
        if collects:
            gc.enable()


def peak_process_mib() -> float:
    """Return the largest memory this process has had, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
