"""Start-up: python benchmarks/startup.py [--quick].

`clclip --help`, and a dry run of 10 experiments x 20 tasks (`snakemake --dry-run`, 10 streams of
one new class a task), each a process of its own: wall time, and processor time of the process and
its children. Bytecode is cached, as the workflow has it, unless the row says otherwise.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure

PROJECT = Path(__file__).parent.parent
EXPERIMENT = """kind: detection
method: {method}
data: {{format: shapes, world: shapes20}}
tasks: [{groups}]
training: {{epochs: 1, lr: {lr}}}
"""


def streams(folder: Path, experiments: int, tasks: int) -> str:
    """Write experiment files of one class a task; return them as snakemake's config value."""
    from clclip.data.shapes.objects import class_names

    groups = ", ".join(f"[{name}]" for name in class_names(20)[:tasks])
    for k in range(experiments):
        method = ("clclip", "fvit")[k % 2]
        text = EXPERIMENT.format(method=method, groups=groups, lr=0.001 * (1 + k))
        (folder / f"stream{k}.yaml").write_text(text)
    return ",".join(str(folder / f"stream{k}.yaml") for k in range(experiments))


def seconds_of(command: list[str], folder: Path, bytecode: bool) -> tuple[float, float]:
    """Return wall and processor seconds of a process and its children."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(PROJECT)
    if not bytecode:
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(folder / "no")}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and write startup.json."""
    chosen = measure.options(__doc__)
    experiments, tasks = (2, 2) if chosen.quick else (10, 20)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = f"experiments={streams(folder, experiments, tasks)}"
        snakemake = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "-n"]
        snakemake += ["--quiet", "all", "--cores", "1", "--directory", name, "--config", config]
        cases = {
            "clclip --help": [sys.executable, "-m", "clclip", "--help"],
            "snakemake --version": [*snakemake[:3], "--version"],
            f"dry run of {experiments} x {tasks} tasks": snakemake,
        }
        rows = []
        for label, command in cases.items():
            for bytecode in (True, False):
                rounds = chosen.rounds if bytecode else 2
                found = [seconds_of(command, folder, bytecode) for _ in range(rounds + bytecode)]
                found = found[bytecode:]  # the first one filled the caches
                wall, processor = zip(*found, strict=True)
                rows.append(
                    {
                        "command": label,
                        "bytecode cached": "yes" if bytecode else "no",
                        "wall s": measure.median(wall),
                        "processor s": measure.median(processor),
                    }
                )
    measure.write("startup", chosen, rows)


if __name__ == "__main__":
    main()
