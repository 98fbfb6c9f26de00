"""``clclip train --devices 2``: torch's launcher, two processes, the files of one."""

import csv
import os
import subprocess
import sys

import pytest

from tests.helpers.workflow.kill import make_world

EXPERIMENT = """
base: smoke_fvit
training: {epochs: 1, batch_size: 10, optimizer: sgd, lr: 1e-2}
switches: {rpn_batch: 32, roi_batch: 16, proposals_train: 60}
"""


def train(world, root, *options):
    command = [sys.executable, "-m", "clclip", "train", "--task", str(world.task)]
    command += ["--log", str(world.task.parent / "logs" / "train.log"), *options]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=world.work, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("processes"), EXPERIMENT, train=1)


def history(world, root, *options):
    """Train afresh; return the rows of history.csv."""
    world.forget()
    done = train(world, root, *options)
    assert done.returncode == 0, done.stderr
    assert (world.folder / "weights.safetensors").exists()
    with (world.folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_processes_and_a_retry_train_a_task_as_one_attempt_does(world, root):
    alone = history(world, root)
    retried = history(world, root, "--attempt", "3")
    together = history(world, root, "--devices", "2")
    log = (world.folder / "logs" / "train.log").read_text().splitlines()
    assert "training in 2 processes" in log[0] and "done stage=train" in log[-1]
    assert sum("step 5/5" in line for line in log) == 1  # the first process alone tells
    for other in (retried, together):
        assert [row["step"] for row in alone] == [row["step"] for row in other] == ["5"]
        for key in set(alone[0]) - {"images_per_s", "peak_mib"}:
            assert float(other[0][key]) == pytest.approx(float(alone[0][key]), rel=1e-4), key


SRUN = """#!/bin/bash
# Stands for srun: two nodes are two launchers on this host.
shift 4
"$@" & "$@" & wait %1 && wait %2
"""


@pytest.mark.slow
def test_two_nodes_train_a_task_as_one_does(world, root, tmp_path, monkeypatch):
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    alone = history(world, root)
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    together = history(world, root, "--nodes", "2")
    log = (world.folder / "logs" / "train.log").read_text().splitlines()
    assert "done stage=train" in log[-1]
    assert sum("step 5/5" in line for line in log) == 1
    assert len(together) == len(alone)
    for key in set(alone[-1]) - {"images_per_s", "peak_mib"}:
        assert float(together[-1][key]) == pytest.approx(float(alone[-1][key]), rel=1e-4), key


@pytest.mark.slow
def test_bad_input_in_the_processes_is_told_once_and_ends_with_2(world, root):
    world.forget()
    labels = world.folder / "train.json"
    whole = labels.read_text()
    labels.write_text(whole[: len(whole) // 2])
    try:
        done = train(world, root, "--devices", "2")
    finally:
        labels.write_text(whole)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "not JSON" in lines[0] and "train.json" in lines[0]
    assert "Traceback" not in done.stderr
    assert not (world.folder / "weights.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "0"], "got 0, in --devices, expected a number from 1"),
        (["--nodes", "2"], "got 2, in training.nodes, expected 1, or a job of SLURM"),
    ],
)
def test_what_cannot_be_spread_is_refused(world, root, options, message):
    world.forget()
    done = train(world, root, *options)
    assert done.returncode == 2 and message in done.stderr
