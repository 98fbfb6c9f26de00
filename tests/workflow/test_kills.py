"""Exact resume: training that is killed at random moments ends as if nothing had happened."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.workflow.kill import World, make_world

DETECTION = """
base: smoke_clclip
training: {epochs: 3, batch_size: 2}
switches: {rpn_batch: 32, roi_batch: 16, proposals_train: 60}
"""
CLASSIFICATION = """
base: smoke_seca
training: {epochs: 6, batch_size: 4}
"""
RUNS, LATE = 20, 14  # kills, and how many of them come after the first saved state


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process cannot use its parent's threads
    yield
    torch.set_num_threads(before)


def outputs(world: World) -> dict[str, bytes]:
    names = ("weights.safetensors", "predictions.json")
    return {name: (world.folder / name).read_bytes() for name in names}


def resumed_at(log: str) -> int:
    found = re.search(r"resumed at step (\d+)", log)
    return int(found.group(1)) if found else 0


def uninterrupted(world: World) -> tuple[dict[str, bytes], float]:
    """Return the outputs of a run that nobody kills, and the seconds of its training."""
    start = time.monotonic()
    assert resumed_at(world.finish("train")) == 0
    seconds = time.monotonic() - start
    world.finish("predict")
    return outputs(world), seconds


def killed_and_finished(
    world: World, wanted: dict[str, bytes], seconds: float, draws: random.Random, late: bool
) -> int:
    """Kill training at a random moment, finish it and predict; return the step it went on from."""
    while True:
        world.forget()
        # states at every step in some runs, so that kills also hit the writing of one
        save = draws.choice([0.0, seconds / 20])
        if world.kill(late, draws.uniform(0, 0.7 * seconds), save):
            break
    weights = world.folder / "weights.safetensors"
    assert not weights.exists() or weights.read_bytes() == wanted[weights.name]  # never half
    step = resumed_at(world.finish("train"))
    assert not world.state.parent.exists()  # removed on success
    world.finish("predict")
    return step


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_twenty_killed_trainings_end_bit_for_bit_as_the_uninterrupted_one(tmp_path):
    world = make_world(tmp_path, DETECTION, train=2)
    wanted, seconds = uninterrupted(world)
    draws = random.Random(0)
    steps = []
    for run in range(RUNS):
        steps.append(killed_and_finished(world, wanted, seconds, draws, late=run < LATE))
        assert outputs(world) == wanted, f"run {run}, resumed at step {steps[-1]}"
    assert sum(step > 0 for step in steps) >= 12, steps
    assert len(set(steps)) > 6, steps  # at many different moments


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_killed_classification_ends_bit_for_bit_as_the_uninterrupted_one(tmp_path):
    world = make_world(tmp_path, CLASSIFICATION, train=2)
    wanted, seconds = uninterrupted(world)
    draws = random.Random(1)
    steps = []
    for run in range(6):
        steps.append(killed_and_finished(world, wanted, seconds, draws, late=run < 5))
        assert outputs(world) == wanted, f"run {run}, resumed at step {steps[-1]}"
    assert sum(step > 0 for step in steps) >= 4, steps


class Run:
    """A snakemake of this checkout in a folder, in a process group of its own."""

    SCORES = "results/killed/seed0/task2/scores.json"

    def __init__(self, root: Path, work: Path) -> None:
        command = [sys.executable, "-m", "snakemake", "-s", str(root / "Snakefile"), "--cores", "1"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        environment |= {"PWD": str(work), "CLCLIP_SAVE_SECONDS": "0", "OMP_NUM_THREADS": "1"}
        self.output = work / "output.txt"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--config", "experiments=killed.yaml", "--", self.SCORES],
                cwd=work,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for_step(self, world: World, step: int) -> None:
        """Wait until training has saved a state after ``step``."""
        deadline = time.monotonic() + 400
        while saved_step(world) <= step:
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return self.output.read_text()

    def kill_training(self) -> None:
        jobs = psutil.Process(self.process.pid).children(recursive=True)
        training = [job for job in jobs if "clclip" in job.cmdline()]
        assert training
        for job in training:
            job.kill()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def saved_step(world: World) -> int:
    """Return the step of the saved state, 0 without one. It is read while it is replaced."""
    from safetensors import safe_open

    if not world.state.exists():
        return 0
    with safe_open(world.state, framework="pt") as state:
        return int(state.metadata()["step"])


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_killed_job_and_a_killed_workflow_go_on_where_they_were(tmp_path, root):
    (tmp_path / "killed.yaml").write_text(DETECTION)
    world = World(tmp_path, Path("results/killed/seed0/task2/task.json"))
    first = tmp_path / "results/killed/seed0/task1/weights.safetensors"

    run = Run(root, tmp_path)
    run.wait_for_step(world, 3)
    trained = first.stat().st_mtime_ns
    run.kill_training()
    assert run.process.wait(timeout=120) == 1  # no retries in the default profile
    assert not (world.folder / "weights.safetensors").exists()
    step = saved_step(world)
    assert step > 3  # Snakemake removed the job's outputs, not its resume state

    run = Run(root, tmp_path)
    run.wait_for_step(world, step + 3)
    run.kill()
    left = [path for path in (tmp_path / "results").rglob("*.json")]
    assert all(json.loads(path.read_text()) is not None for path in left)  # whole or not there
    step = saved_step(world)

    run = Run(root, tmp_path)
    assert run.process.wait(timeout=400) == 0, run.said()
    assert "its lock is removed" in run.said()
    log = (world.folder / "logs" / "train.log").read_text()
    assert resumed_at(log) == step
    assert first.stat().st_mtime_ns == trained  # what was complete was not trained again
    assert "rule train_task" in run.said() and run.said().count("rule train_task") == 1
    killed = outputs(world)

    world.forget()
    assert uninterrupted(world)[0] == killed
