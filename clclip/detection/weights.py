"""Weight files of detection tasks: each holds only what its task adds or changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import clclip
from clclip.core.errors import InputError
from clclip.training.tensors import save_tensors

MEMORY = "memory."
"""Prefix of tensors that are remembered data, no part of the network."""


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole, with versions and the given metadata."""
    versions = {"clclip": clclip.__version__, "torch": torch.__version__}
    save_tensors(path, tensors, {**versions, **metadata})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a weights file.

    Raises:
        InputError: if the file is missing, truncated or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
            return tensors, dict(stored.metadata() or {})
    except FileNotFoundError:
        raise InputError("no such file", path, "the weights of a finished task") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"not a whole safetensors file ({error})", path, "the weights of a finished task"
        ) from None


def load_chain(model: nn.Module, paths: Iterable[Path], *, may_lack: Iterable[str] = ()) -> None:
    """Load the weights of tasks in order, later files over earlier ones.

    Args:
        model: built for the class groups of those tasks (and perhaps of the next).
        paths: weights files of tasks 1, 2, ...
        may_lack: names that no file needs to hold: what the next task is about to make.

    Raises:
        InputError: if a tensor is missing, unknown or of another shape: weights of another
            configuration.
    """
    wanted = model.state_dict()
    state: dict[str, Tensor] = {}
    last = None
    for path in paths:
        tensors, _ = read_weights(path)
        tensors = {n: value for n, value in tensors.items() if not n.startswith(MEMORY)}
        last = path
        for name, value in tensors.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise InputError(f"tensor {name!r} is not finite", path, "finite numbers")
            if name not in wanted or wanted[name].shape != value.shape:
                shape = tuple(value.shape)
                raise InputError(
                    f"tensor {name!r} of shape {shape} does not fit",
                    path,
                    "weights made with this task's switches and CLIP",
                )
        state.update(tensors)
    lacking = sorted(set(wanted) - set(state) - set(may_lack))
    if lacking and last is not None:
        raise InputError(
            f"tensor {lacking[0]!r} is missing", last, "weights made with this task's switches"
        )
    model.load_state_dict(state, strict=False)
