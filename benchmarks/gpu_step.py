"""Step on a GPU: python benchmarks/gpu_step.py [--quick].

ViT-B/16 (random weights) at 640 px in bf16 with F-ViT's published head, batch 16, task 2 with 20
and 80 current classes: images/s of training and inference, memory, the frozen tower's share, every
dispatch of the experts, and a profile of what the rest is. Ends with one line where there is none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import measure
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from clclip.clip.load import LoadedClip
from clclip.clip.tower import FrozenTower
from clclip.core import machine as speed
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.clclip.dispatch import DISPATCHES
from clclip.detection.methods.detector import DetectorInputs
from clclip.detection.methods.fvit import FViT
from clclip.detection.options.clclip import ClClipOptions
from clclip.detection.options.fvit import FViTOptions
from clclip.training.device import precision, to_device
from clclip.training.seeds import generator

HEAD = {
    "scales": (4, 2, 1, 0.5),
    "channels": 256,
    "extra_level": True,
    "anchor_size": 8,
    "roi_convs": 4,
    "fc_width": 1024,
    "rpn_batch": 256,
    "roi_batch": 512,
    "proposals_train": 1000,
    "proposals_test": 1000,
    "expert_width": 64,
}


def towers(device: torch.device) -> FrozenTower:
    """Return ViT-B/16 with random weights on a device."""
    model = open_clip.create_model("ViT-B-16", load_weights=False).eval().requires_grad_(False)
    clip = LoadedClip(model, str, 224, (0.5,) * 3, (0.5,) * 3, 512, 16, "ViT-B-16")
    return FrozenTower(clip, "catseg", [3, 5, 7, 11]).to(device)


def labelled(tower: FrozenTower, pixels: Tensor, classes: int) -> Batch:
    """Return a training batch of the pixels with eight random boxes an image."""
    count, size = len(pixels), pixels.shape[-1]
    targets, draws = [], []
    for n in range(count):
        draw = generator("gpu", n)
        corner = torch.rand(8, 2, generator=draw) * size * 0.6
        sides = 32 + torch.rand(8, 2, generator=draw) * size * 0.35
        boxes = torch.cat([corner, (corner + sides).clamp(max=size)], dim=1)
        labels = torch.randint(classes, (8,), generator=draw)
        target = {"boxes": boxes, "labels": labels, "ignore": torch.zeros(0, 4)}
        targets.append({k: v.to(pixels.device) for k, v in target.items()})
        draws.append(draw)
    features = tower(pixels)
    canvas = canvas_list(count, (size, size), torch.full((count, 2), size))
    return Batch(features.taps, features.dense, canvas, targets, draws)


def detector(method: str, classes: int, tower: FrozenTower, head: dict[str, Any]) -> nn.Module:
    """Return a detector in task 2 with ``classes`` classes in each of two tasks."""
    groups = [[f"{part} {k}" for k in range(classes)] for part in ("old", "new")]
    text = functional.normalize(torch.randn(2 * classes, tower.embed_dim), dim=-1)
    inputs = DetectorInputs(768, tower.patch, groups, text, text[:2], 0)
    torch.manual_seed(0)
    if method == "fvit":
        known = {key: value for key, value in head.items() if key in FViTOptions.model_fields}
        return FViT(inputs, FViTOptions(**known))
    return ClClip(inputs, ClClipOptions(**head))


def step_of(
    model: nn.Module, tower: FrozenTower, pixels: Tensor, classes: int
) -> Callable[[], None]:
    """Return a training step that runs the tower too."""
    model.begin_task()
    trained = list(model.trained().values())
    optimizer = torch.optim.AdamW(trained, lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision("bf16", pixels.device):
            losses = model.losses(labelled(tower, pixels, classes))
        torch.stack([value.float() for value in losses.values()]).sum().backward()
        nn.utils.clip_grad_norm_(trained, 10.0)
        optimizer.step()

    return step


def forward_of(run: Callable[[Tensor], Any], pixels: Tensor) -> Callable[[], Any]:
    """Return a call of something on the pixels, in bf16 and without gradients."""

    def forward() -> Any:
        with torch.no_grad(), precision("bf16", pixels.device):
            return run(pixels)

    return forward


def inference_of(
    model: nn.Module, tower: FrozenTower, pixels: Tensor, classes: int
) -> Callable[[], Any]:
    """Return a call of a detector on the pixels, its tower included."""
    return forward_of(lambda p: model.detect(labelled(tower, p, classes)), pixels)


def measured(chosen: Any, device: torch.device, head: dict[str, Any], sizes: Any) -> list[dict]:
    """Return the rows: tower, F-ViT, CL-CLIP at every number of classes, and every dispatch."""
    images, size, counts = sizes
    tower, rows = towers(device), []
    pixels = torch.randn(images, 3, size, size, device=device)
    for classes in counts:
        runs = {"tower": forward_of(tower, pixels)}
        for method in ("fvit", "clclip"):
            model = to_device(detector(method, classes, tower, head), device, "bf16")
            runs[f"{method} step"] = step_of(model, tower, pixels, classes)
            detect = to_device(detector(method, classes, tower, head), device, "bf16").eval()
            runs[f"{method} inference"] = inference_of(detect, tower, pixels, classes)
        for name in DISPATCHES:
            runs[f"clclip step, experts {name}"] = _with(name, runs["clclip step"])
        seconds = measure.timed(runs, chosen.rounds, warm=2)
        rows += [
            {
                "run": name,
                "classes": classes,
                "ms": 1e3 * measure.median(own),
                "images/s": images / measure.median(own),
                "x tower": measure.ratio(own, seconds["tower"]),
                "tower's share": measure.ratio(seconds["tower"], own),
                "peak MiB": measure.peak_mib(runs[name]),
            }
            for name, own in seconds.items()
        ]
        print(profiled(runs["clclip step"]), flush=True)
    return rows


def _with(experts: str, run: Callable[[], None]) -> Callable[[], None]:
    def chosen() -> None:
        os.environ[speed.VARIABLE] = json.dumps({"experts": experts})
        try:
            run()
        finally:
            del os.environ[speed.VARIABLE]

    return chosen


def profiled(run: Callable[[], None]) -> str:
    """Return the profiler's table of one step."""
    on = [ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if torch.cuda.is_available():
        on, key = [*on, ProfilerActivity.CUDA], "self_cuda_time_total"
    with profile(activities=on) as found:
        run()
        measure.synchronize()
    return found.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60)


def main() -> int:
    """Measure and write gpu_step.json; 0 also where there is no GPU."""
    chosen = measure.options(__doc__)
    if not torch.cuda.is_available() and not chosen.quick:
        print("gpu_step: no GPU here, nothing measured; run this on a machine that has one")
        return 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    head = HEAD | {"roi_batch": 16, "proposals_train": 40, "proposals_test": 40, "channels": 16}
    if chosen.quick:
        rows = measured(chosen, device, head | {"fc_width": 32}, (1, 64, (2,)))
    else:
        rows = measured(chosen, device, HEAD, (16, 640, (20, 80)))
    measure.write("gpu_step", chosen, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
