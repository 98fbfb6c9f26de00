"""Training step of F-ViT and CL-CLIP, all losses on: python benchmarks/training_step.py [--quick].

A step of task 2 with K current classes after K previous ones: forward, losses, backward, clipping,
AdamW, on a batch of 8 scenes whose frozen features are cached, as shipped. The frozen tower's own
time on the same scenes stands beside it, and what part of a step with the tower it would be.
"""

from __future__ import annotations

from collections.abc import Callable

import measure
import torch
import worlds
from torch import nn

from clclip.detection.layers.batch import Batch
from clclip.training.device import precision


def stepper(model: nn.Module, batch: Batch, mode: str = "fp32") -> Callable[[], None]:
    """Return one optimizer step of a model on a batch."""
    model.requires_grad_(True)
    model.begin_task()
    trained = list(model.trained().values())
    optimizer = torch.optim.AdamW(trained, lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision(mode, torch.device("cpu")):
            losses = model.losses(batch)
        torch.stack([value.float() for value in losses.values()]).sum().backward()
        nn.utils.clip_grad_norm_(trained, 10.0)
        optimizer.step()

    return step


def contestants(scenes: worlds.Scenes, counts: list[int], images: int) -> dict[str, Callable]:
    """Return the steps by name."""
    found: dict[str, Callable[[], None]] = {}
    for count in counts:
        batch = scenes.training(range(images), count)
        found[f"fvit K={count}"] = stepper(scenes.fvit(2 * count, 2), batch)
        found[f"clclip K={count}"] = stepper(scenes.clclip(2 * count, 2), batch)
    first = counts[0]
    batch = scenes.training(range(images), first)
    for shared in ("drift", "frozen"):
        model = scenes.clclip(2 * first, 2, shared=shared)
        found[f"clclip {shared} K={first}"] = stepper(model, batch)
    detached = scenes.clclip(2 * first, 2, detach_experts=True)
    found[f"clclip detached K={first}"] = stepper(detached, batch)
    residual = scenes.clclip(2 * first, 2, adapter="residual")
    found[f"clclip residual K={first}"] = stepper(residual, batch)
    fast = scenes.clclip(2 * first, 2, **worlds.variant("fast"))
    found[f"clclip fast K={first}"] = stepper(fast, batch)
    found[f"fvit bf16 K={first}"] = stepper(scenes.fvit(2 * first, 2), batch, "bf16")
    found[f"clclip bf16 K={first}"] = stepper(scenes.clclip(2 * first, 2), batch, "bf16")
    return found


def main() -> None:
    """Measure and write training_step.json."""
    chosen = measure.options(__doc__)
    counts, images = ([10, 20], 2) if chosen.quick else ([10, 20, 80, 200], 8)
    scenes = worlds.Scenes("shapes20_tiny" if chosen.quick else "shapes80", 4 * images, 2)
    steps = contestants(scenes, counts, images)
    pixels = scenes.pixels("train")[:images]
    steps["tower"] = lambda: scenes.tower(pixels)
    seconds = measure.timed(steps, chosen.rounds, warm=2)
    rate, rows = measure.gflops_of_machine(), []
    for name, run in steps.items():
        own = seconds[name]
        work = measure.gflop(run)
        rows.append(
            {
                "step": name,
                "ms": 1e3 * measure.median(own),
                "x F-ViT K=10": measure.ratio(own, seconds["fvit K=10"]),
                "x CL-CLIP K=10": measure.ratio(own, seconds["clclip K=10"]),
                "peak MiB": measure.peak_mib(run),
                "GFLOP": work,
                "floor ms": 1e3 * work / rate,
                "tower's share": measure.median(
                    [t / (t + s) for t, s in zip(seconds["tower"], own, strict=True)]
                )
                if name != "tower"
                else None,
            }
        )
    measure.write("training_step", chosen, rows, images=images, gflops_of_machine=rate)


if __name__ == "__main__":
    main()
