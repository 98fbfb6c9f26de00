"""Scaling of a whole workflow: python benchmarks/workflow_scaling.py [--quick].

Wall time of `snakemake` on tiny streams (60 training scenes, one epoch): two experiments over
``--cores 1`` and 2, and one experiment over 1, 2, 4 tasks. Data, CLIP and features are made first
and not counted. Other work on the machine lengthens these.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

PROJECT = Path(__file__).parent.parent
EXPERIMENT = """kind: detection
method: {method}
data: {{format: shapes, world: shapes20_tiny}}
tasks: {tasks}
training: {{epochs: 1, lr: {lr}}}
"""


def write_stream(folder: Path, name: str, method: str, tasks: int, lr: float) -> Path:
    """Write an experiment of ``tasks`` tasks of two classes each."""
    from clclip.data.shapes.objects import class_names

    names = class_names(20)
    groups = [names[2 * k : 2 * k + 2] for k in range(tasks)]
    path = folder / f"{name}.yaml"
    path.write_text(EXPERIMENT.format(method=method, tasks=groups, lr=lr))
    return path


def run(folder: Path, files: list[Path], cores: int, until: str | None = None) -> float:
    """Run snakemake; return its wall seconds."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile")]
    command += ["--quiet", "all", "--cores", str(cores), "--directory", str(folder)]
    command += ["--config", f"experiments={','.join(map(str, files))}"]
    command += ["--until", until] if until else []
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"snakemake ended with {done.returncode}: {done.stderr[-800:]}")
    return time.perf_counter() - start


def main() -> None:
    """Measure and write workflow_scaling.json."""
    chosen = measure.options(__doc__)
    rows: list[dict[str, Any]] = []
    cores = [1] if chosen.quick else [1, 2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm = write_stream(folder, "warm", "clclip", 1, 0.01)
        run(folder, [warm], 1, None if chosen.quick else "extract_features")
        for turn in range(1 if chosen.quick else min(chosen.rounds, 3)):
            for count in cores if not chosen.quick else []:
                # other learning rates: nothing is taken from an earlier run
                files = [
                    write_stream(folder, f"c{count}{turn}{m}", m, 2, 0.001 * (1 + turn + 7 * count))
                    for m in ("clclip", "fvit")
                ]
                rows.append({"what": "2 experiments x 2 tasks", "cores": count, "tasks": 4})
                rows[-1]["wall s"] = run(folder, files, count)
            for tasks in (1,) if chosen.quick else (1, 2, 4):
                file = write_stream(
                    folder, f"t{tasks}{turn}", "clclip", tasks, 0.002 + 0.0001 * (turn + 9 * tasks)
                )
                rows.append({"what": "1 experiment", "cores": max(cores), "tasks": tasks})
                rows[-1]["wall s"] = run(folder, [file], max(cores))
    merged = []
    for what, count, tasks in sorted({(r["what"], r["cores"], r["tasks"]) for r in rows}):
        own = [
            r["wall s"] for r in rows if (r["what"], r["cores"], r["tasks"]) == (what, count, tasks)
        ]
        merged.append({"what": what, "cores": count, "tasks": tasks, "wall s": measure.median(own)})
    measure.write("workflow_scaling", chosen, merged)


if __name__ == "__main__":
    main()
