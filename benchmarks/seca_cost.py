"""What SECA costs beside H-PEFT and a plain forward: `python benchmarks/seca_cost.py`.

Prints the ratio of inference with 20 prompts x 200 classes to a plain forward of the tower
(bound: 1.1) and of a training step of SECA with a full pool to one of H-PEFT on the same batch
(bound: 2.2). ViT-B-32 with random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import open_clip
import torch
from torch.nn import functional as F

from clclip.classification.inference import hybrid_probabilities
from clclip.classification.records import Memory, Record
from clclip.classification.seca import Learner
from clclip.classification.switches import resolve_switches


class Noise:
    """Training images of noise, with the interface of ``Pixels``."""

    keep = True

    def __init__(self, count: int, side: int) -> None:
        self.images = torch.randn(count, 3, side, side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: object) -> torch.Tensor:
        return self.images[rows if isinstance(rows, torch.Tensor) else list(rows)]


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Return the median duration after one call to warm up."""
    action()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def stepper(model: torch.nn.Module, method: str, batch: int) -> tuple[Callable[[], None], Learner]:
    """Return a training step of the last of six tasks (five earlier snapshots), and its learner."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    names = [f"class number {k}" for k in range(60)]
    records: list[Record] = []
    for task in range(6):
        seen = names[: 10 * (task + 1)]
        switches = resolve_switches(method, {})
        learner = Learner(model, tokenizer, seen, 10 * task, switches, Memory(records), 0)
        learner.begin_task(Noise(20, learner.tower.image_size), torch.arange(20) % 10)
        if task < 5:
            records.append({k: v.detach().clone() for k, v in learner.end_task().items()})
    learner.begin_task(Noise(batch, learner.tower.image_size), torch.arange(batch) % 10)
    optimizer = torch.optim.Adam([p for p in learner.trained.values() if p.requires_grad])

    def step() -> None:
        optimizer.zero_grad()
        sum(learner.losses(torch.arange(batch), 0).values()).backward()
        optimizer.step()

    return step, learner


def main() -> None:
    """Measure and print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval().requires_grad_(False)
    times = {}
    for method in ("hpeft", "seca"):
        step, learner = stepper(model, method, arguments.batch)
        times[method] = seconds(step, arguments.repeats)
        print(f"{method} step: {times[method]:.3f} s", flush=True)
    print(f"seca / hpeft: {times['seca'] / times['hpeft']:.2f}")
    images = torch.randn(arguments.batch, 3, 224, 224)
    text = F.normalize(torch.randn(20, 200, learner.tower.embed_dim), dim=-1)
    prototypes = text[0]

    @torch.no_grad()
    def plain() -> None:
        model.encode_image(images)

    @torch.no_grad()
    def hybrid() -> None:
        tower = learner.tower
        features = F.normalize(tower.feature(tower.stem(images), learner.adapters), dim=-1)
        hybrid_probabilities(features, text, prototypes, 20, 0.5)

    forward, judged = seconds(plain, arguments.repeats), seconds(hybrid, arguments.repeats)
    print(f"plain forward {forward:.3f} s, 20 prompts x 200 classes {judged:.3f} s")
    print(f"inference / forward: {judged / forward:.3f}")


if __name__ == "__main__":
    main()
