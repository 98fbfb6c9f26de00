"""Years of learning: python benchmarks/many_classes.py [--quick].

CL-CLIP and F-ViT over 1,203 classes, as many as LVIS has, in 1, 10 and 100 tasks, untrained (what
they cost does not depend on what they know): seconds and memory of inference, weights on disk, and
reading them from a file per task. Classes beyond the world's own 80 are near-copies of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import measure
import worlds
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

IMAGES = 2


def by_task(model: nn.Module, tasks: int) -> list[dict[str, Tensor]]:
    """Return the tensors of each task, as its weights file holds them."""
    parts: list[dict[str, Tensor]] = [{} for _ in range(tasks)]
    for name, value in model.state_dict().items():
        head, *rest = name.split(".")
        own = int(rest[0]) if head in ("paths", "banks") else 0
        parts[own][name] = value.contiguous()
    return parts


def saved(model: nn.Module, tasks: int, folder: Path) -> list[Path]:
    """Write a file per task."""
    files = []
    for number, tensors in enumerate(by_task(model, tasks)):
        files.append(folder / f"task{number}.safetensors")
        save_file(tensors, files[-1])
    return files


def row(
    name: str, model: nn.Module, tasks: int, classes: int, batch: Any, rounds: int, rate: float
) -> dict[str, Any]:
    """Measure one detector, on a machine of ``rate`` GFLOP/s."""
    with tempfile.TemporaryDirectory() as folder:
        files = saved(model, tasks, Path(folder))
        size = sum(file.stat().st_size for file in files)
        runs = {
            "detect": lambda: model.detect(batch),
            "load": lambda: [load_file(file) for file in files],
        }
        seconds = measure.timed(runs, rounds)
        peak = measure.peak_mib(runs["detect"])
        floor = measure.floor_ms(runs["detect"], rate)
    return {
        "run": name,
        "classes": classes,
        "tasks": tasks,
        "ms per image": 1e3 * measure.median(seconds["detect"]) / IMAGES,
        "floor ms per image": floor / IMAGES,
        "peak MiB": peak,
        "MB on disk": size / 1e6,
        "load s": measure.median(seconds["load"]),
    }


def main() -> None:
    """Measure and write many_classes.json."""
    chosen = measure.options(__doc__)
    classes, counts = (12, [1, 3]) if chosen.quick else (1203, [1, 10, 100])
    scenes = worlds.Scenes("shapes20_tiny" if chosen.quick else "shapes80", 16, IMAGES)
    batch = scenes.batch("test", range(IMAGES))
    rounds = min(chosen.rounds, 3)
    rate = measure.gflops_of_machine()
    rows = [row("F-ViT", scenes.fvit(classes, 1), 1, classes, batch, rounds, rate)]
    for tasks in counts:
        model = scenes.clclip(classes, tasks)
        rows.append(row("CL-CLIP", model, tasks, classes, batch, rounds, rate))
        del model
    first = rows[0]["ms per image"]  # of medians: one model at a time fits in memory
    rows = [{**own, "x F-ViT": own["ms per image"] / first} for own in rows]
    measure.write("many_classes", chosen, rows, images=IMAGES)


if __name__ == "__main__":
    main()
