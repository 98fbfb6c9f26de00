"""The training loop that every method shares."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clclip.training import parallel
from clclip.training.epochs import epochs_of
from clclip.training.history import History
from clclip.training.resume import load_state, remove_state, save_state
from clclip.training.shares import LossesAt, backward, own_shares

logger = logging.getLogger(__name__)

RECORD_STEPS = 10  # losses are fetched from the device every so many steps


@dataclass(frozen=True)
class FitSettings:
    """Numbers of the optimization; ``steps`` and ``warmup_steps`` count optimizer steps."""

    steps: int
    lr: float
    batch_size: int
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()  # in steps, for "multistep"
    grad_clip: float = 0.0  # 0: none
    precision: str = "fp32"

    @classmethod
    def of(cls, training: Mapping[str, Any], steps_per_epoch: int) -> FitSettings:
        """Return the settings of a task.

        Args:
            training: the task's training section. The warm-up is cut to a quarter of the steps, so
                that a short task still reaches its learning rate.
            steps_per_epoch: batches of one pass over the task's images.
        """
        steps = epochs_of(training, steps_per_epoch) * steps_per_epoch
        return cls(
            steps=steps,
            lr=training["lr"],
            batch_size=training["batch_size"],
            optimizer=training["optimizer"],
            weight_decay=training["weight_decay"],
            warmup_steps=min(training["warmup_steps"], steps // 4),
            schedule=training["schedule"],
            milestones=tuple(round(part * steps) for part in training["milestones"]),
            grad_clip=training["grad_clip"] or 0.0,
            precision=training.get("precision", "fp32"),
        )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, **options),
}


def learning_rate_factor(step: int, settings: FitSettings) -> float:
    """Return the factor on the learning rate at 0-based ``step``: warm-up, then schedule."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "multistep":
        return 0.1 ** sum(step >= milestone for milestone in settings.milestones)
    span = max(settings.steps - settings.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / span))


@contextlib.contextmanager
def _without_denormals() -> Iterator[None]:
    """Flush numbers below 1e-38 to zero, which a CPU takes many times as long over.

    Adam's moments of units that no longer learn decay to such numbers, and never to zero.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_without_denormals()
def fit(
    parameters: Mapping[str, nn.Parameter],
    losses_at: LossesAt,
    settings: FitSettings,
    *,
    label: str,
    resume: Path,
    digest: str,
    micro_batches: int = 1,
    lr_scale: Mapping[str, float] | None = None,
    listener: Callable[[dict[str, Any]], None] | None = None,
    after_step: Callable[[], None] | None = None,
) -> History:
    """Minimise the sum of the losses over ``parameters``.

    Args:
        parameters: what is trained, by name; everything else stays bit-equal.
        losses_at: called with the 0-based step and a share of its batch; returns the named,
            already weighted losses, or None for a share without images. It must depend on its
            arguments alone (see ``seeds.py``), so that a resumed run repeats the uninterrupted one.
        settings: the numbers.
        label: for the progress bar.
        resume: folder of the resume state.
        digest: digest of everything that decides the run.
        micro_batches: shares of a batch that this process works on one after another.
        lr_scale: factor on the learning rate by parameter-name prefix.
        listener: receives each history row.
        after_step: synchronises parameters without gradients across processes.

    Returns:
        the history. The resume state stays until the caller has written its outputs
        (``remove_state``).

    Raises:
        RuntimeError: if a loss is not finite.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters.values())
    optimizer = OPTIMIZERS[settings.optimizer](
        _parameter_groups(parameters, settings, lr_scale or {}),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        # a quarter of the time on a CPU, in another rounding, which published numbers rest on
        fused=True if on_cpu and settings.precision == "bf16" else None,
    )
    first, rows = load_state(resume, digest, parameters, optimizer)
    parallel.share_from_first(list(parameters.values()))
    shares = own_shares(micro_batches)
    history = History(label, settings.steps, settings.batch_size, rows, listener)
    save_seconds = float(os.environ.get("CLCLIP_SAVE_SECONDS", "20"))
    saved = time.monotonic()
    for step in range(first, settings.steps):
        factor = learning_rate_factor(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * group["lr_scale"] * factor
        optimizer.zero_grad(set_to_none=True)
        losses = backward(losses_at, step, shares, list(parameters.values()))
        if settings.grad_clip:
            nn.utils.clip_grad_norm_(list(parameters.values()), settings.grad_clip)
        optimizer.step()
        if after_step is not None:
            after_step()
        if (step + 1) % RECORD_STEPS == 0 or step + 1 == settings.steps:
            _record(history, step + 1, losses, settings.lr * factor)
        history.advance(step + 1)
        due = time.monotonic() - saved >= save_seconds and parallel.rank() == 0
        if due and step + 1 < settings.steps:
            save_state(resume, digest, step + 1, parameters, optimizer, history.rows)
            saved = time.monotonic()
    history.close()
    return history


def _parameter_groups(
    parameters: Mapping[str, nn.Parameter], settings: FitSettings, lr_scale: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One group per learning-rate factor and decay: norms and biases (1-d) are not decayed."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scale = next((f for prefix, f in lr_scale.items() if name.startswith(prefix)), 1.0)
        groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": members,
            "lr_scale": scale,
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for (scale, decayed), members in groups.items()
    ]


def _record(history: History, step: int, losses: dict[str, Tensor], lr: float) -> None:
    names = list(losses)
    values = torch.stack([losses[name].detach().float() for name in names]).tolist()
    if not all(math.isfinite(value) for value in values):
        named = {name: value for name, value in zip(names, values, strict=True)}
        raise RuntimeError(f"a loss is not finite at step {step}: {named}; lower the learning rate")
    history.record(step, dict(zip(names, values, strict=True)), lr)


__all__ = ["FitSettings", "fit", "learning_rate_factor", "remove_state"]
