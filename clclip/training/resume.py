"""Exact resume: everything that a killed training run needs to continue to the same result.

The state lies in ``resume/`` beside the outputs, not among them, because Snakemake deletes the
outputs of a failed job. Random numbers need no state (see ``seeds.py``): the step decides every
draw.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from clclip.core.files import replacing

logger = logging.getLogger(__name__)


def save_state(
    folder: Path,
    digest: str,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    rows: list[dict[str, Any]],
) -> None:
    """Write the state after ``step`` finished steps, whole: a reader never sees half of it.

    Args:
        folder: the ``resume`` folder of the task.
        digest: digest of everything that decides the run (task.json, its inputs); another digest
            starts afresh.
        step: number of finished optimizer steps.
        parameters: the trained parameters by name, in the optimizer's order.
        optimizer: the optimizer; its per-parameter tensors are stored.
        rows: rows of the history so far.
    """
    tensors = {f"parameter/{name}": value.detach() for name, value in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
    tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
    metadata = {"digest": digest, "step": str(step), "rows": json.dumps(rows)}
    with replacing(folder / "state.safetensors") as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_state(
    folder: Path,
    digest: str,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> tuple[int, list[dict[str, Any]]]:
    """Restore parameters and optimizer in place.

    Returns:
        the number of finished steps and the history rows; ``(0, [])`` if there is nothing to
        resume from, or if the state belongs to other settings, which is logged.
    """
    path = folder / "state.safetensors"
    if not path.exists():
        return 0, []
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
    except (SafetensorError, OSError) as error:
        logger.warning("the resume state %s cannot be read (%s): starting afresh", path, error)
        return 0, []
    names = {f"parameter/{name}" for name in parameters}
    if metadata.get("digest") != digest or not names <= set(tensors):
        logger.warning("the resume state %s belongs to other settings: starting afresh", path)
        return 0, []
    _restore(tensors, parameters, optimizer)
    step = int(metadata["step"])
    logger.info("resumed at step %d from %s", step, path)
    return step, json.loads(metadata["rows"])


def _restore(
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
    for name, parameter in parameters.items():
        prefix = f"optimizer/{name}/"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if state:
            # Adam keeps its step count on the CPU, the moments where the parameter is and in its
            # memory format, without which a fused step would mix up their places
            optimizer.state[parameter] = {
                key: value if key == "step" else torch.empty_like(parameter).copy_(value).detach()
                for key, value in state.items()
            }


def remove_state(folder: Path) -> None:
    """Delete the resume state once the outputs are written."""
    shutil.rmtree(folder, ignore_errors=True)
