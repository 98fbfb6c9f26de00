"""Every benchmark in its quick form, so that none rots; what they print is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"
ROWS = {
    "detect_images": {"images/s", "x one at a time", "images/s by the clock"},
    "many_classes": {"ms per image", "peak MiB", "MB on disk", "load s"},
    "region_align": {"cells", "ms", "x torchvision"},
    "onnx_runtime": {"batch", "onnx ms", "torch ms", "onnx / torch all", "same"},
    "training_step": {"ms", "x F-ViT K=10", "peak MiB", "floor ms", "tower's share"},
    "inference": {"ms per image", "x F-ViT", "pairs", "pair recall", "peak MiB"},
    "feature_cache": {"cached ms per image", "online ms per image", "online / cached"},
    "expert_bank": {"ms", "x plain loop", "x plain routed", "chosen"},
    "compare_coverage": {"ours", "percentile", "basic", "width"},
    "scoring": {"s", "pycocotools / it"},
    "startup": {"wall s", "processor s", "bytecode cached"},
    "torchvision_detector": {"training s", "mAP@A"},
    "gpu_step": {"images/s", "x tower", "tower's share"},
}
SLOW = (
    "onnx_runtime",
    "inference",
    "feature_cache",
    "startup",
    "torchvision_detector",
    "gpu_step",
    "workflow_scaling",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmarks")


def run(name, home, *options):
    environment = os.environ | {"CLCLIP_BENCHMARKS": str(home / "resources")}
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--out", str(home), *options]
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in ROWS]
)
def test_a_benchmark_runs_and_writes_what_it_measured(name, home):
    done = run(name, home, "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((home / f"{name}.json").read_text())
    assert found["benchmark"] == name and found["quick"] is True
    assert found["machine"]["cpu"] and found["machine"]["torch"]
    assert found["rows"] and ROWS[name] <= set().union(*found["rows"])
    numbers = [v for row in found["rows"] for v in row.values() if isinstance(v, float)]
    assert numbers and all(value >= 0 for value in numbers)
    for row in found["rows"]:
        assert str(next(iter(row.values()))) in done.stdout


@pytest.mark.slow
def test_the_scaling_of_the_workflow_is_measured(home):
    done = run("workflow_scaling", home, "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((home / "workflow_scaling.json").read_text())["rows"]
    assert rows and all(row["wall s"] > 0 for row in rows)


def test_without_a_gpu_the_gpu_benchmark_says_so_in_one_line(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run("gpu_step", tmp_path)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and "no GPU" in done.stdout
    assert not (tmp_path / "gpu_step.json").exists()


def test_timing_runs_contestants_in_turn_and_ratios_are_of_rounds(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import measure

    order = []
    seconds = measure.timed({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 4, 1)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]
    assert [len(values) for values in seconds.values()] == [4, 4]
    assert measure.ratio([2.0, 8.0, 3.0], [1.0, 2.0, 3.0]) == 2.0
    text = measure.table([{"x": 1.23456, "y": None}, {"x": 2.0, "z": "ok"}])
    assert text.splitlines()[0].split() == ["x", "y", "z"] and "1.235  -" in text


def test_peak_memory_is_that_of_the_call(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import measure
    import torch

    if torch.cuda.is_available():
        pytest.skip("measured on the device there")
    held = torch.ones(8 * 2**20)  # 32 MiB that the call does not make
    assert 60 < measure.peak_mib(lambda: torch.ones(16 * 2**20).sum()) < 70
    assert measure.peak_mib(lambda: None) < 5 and len(held)
