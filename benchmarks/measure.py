"""What all benchmarks share: fair timing, peak memory, tables, JSON with the machine's description.

Times are medians over rounds in which every contestant runs once, in turn, so that a slow minute
of the machine slows all of them; ratios are medians of the rounds' ratios. On a CPU they are
seconds of processor time, which other work on the machine does not lengthen; with one thread, the
default, that is what a free core needs. With a GPU they are seconds of the clock.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).parent / "results"
ROUNDS = 7
Name = TypeVar("Name", bound=Hashable)  # of a contestant


def options(text: str | None, **more: dict[str, Any]) -> argparse.Namespace:
    """Read the command line that all benchmarks share.

    Args:
        text: the module's docstring.
        more: further options: name -> arguments of ``add_argument``.
    """
    parser = argparse.ArgumentParser(description=(text or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, seconds: does it run?")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds per figure (>= 5)")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of JSON")
    for name, arguments in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **arguments)
    found = parser.parse_args()
    if found.quick:
        found.rounds = 2
    import torch

    torch.set_num_threads(found.threads)
    return found


def timed(
    contestants: Mapping[Name, Callable[[], object]], rounds: int, warm: int = 1
) -> dict[Name, list[float]]:
    """Return each contestant's seconds, round by round; every round runs all of them in turn."""
    for _ in range(warm):
        for run in contestants.values():
            run()
    seconds: dict[Name, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            synchronize()
            start = clock()
            contestants[name]()
            synchronize()
            seconds[name].append(clock() - start)
    return seconds


def clock() -> float:
    """Return seconds: of the processor, with a GPU of the clock."""
    import torch

    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def gflop(run: Callable[[], object]) -> float:
    """Return the floating-point operations of one call, in 1e9: products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def gflops_of_machine() -> float:
    """Return the speed of a large float32 matrix product, in 1e9 operations a second: the floor."""
    import torch

    a = torch.randn(1024, 1024)
    seconds = timed({"product": lambda: a @ a}, 5)["product"]
    return 2 * 1024**3 / median(seconds) / 1e9


def floor_ms(run: Callable[[], object], rate: float) -> float:
    """Return the milliseconds that the arithmetic of one call takes at ``rate`` GFLOP/s."""
    return 1e3 * gflop(run) / rate


def synchronize() -> None:
    """Wait for the accelerator, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median over the rounds of above / below."""
    return median([a / b for a, b in zip(above, below, strict=True)])


def peak_mib(run: Callable[[], object]) -> float:
    """Return by how many MiB one call raises the memory of this process above what it holds.

    Linux keeps the peak and lets it be reset; the allocator first gives back what is free.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def machine() -> dict[str, Any]:
    """Describe where the figures come from."""
    import torch

    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bytecode_cached": not os.environ.get("PYTHONDONTWRITEBYTECODE"),
        "load_before": round(LOAD, 2),
        "commit": _commit(),
    }


LOAD = os.getloadavg()[0]


def _commit() -> str | None:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or None


def write(name: str, chosen: argparse.Namespace, rows: list[dict[str, Any]], **more: Any) -> None:
    """Print rows as a table and write them to ``{name}.json`` with the machine's description."""
    print(table(rows))
    for key, value in more.items():
        print(f"{key}: {value}")
    content = {"benchmark": name, "quick": chosen.quick, "rounds": chosen.rounds}
    content |= {"machine": machine(), "rows": rows, **more}
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as aligned text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_text(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(names))]
    shown = [[cell.ljust(n) for cell, n in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in shown)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
