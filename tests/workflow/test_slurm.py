"""The smoke workflow on a real SLURM of one node, as ``docs/cluster.md`` tells users to run it."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.workflow import slurm as slurm_cluster

pytestmark = pytest.mark.slow

# Stands for sbatch and lets nothing of the submit host's environment through to the job.
SBATCH = """#!/bin/bash
exec {sbatch} "${{@/--export=ALL/--export=NIL}}"
"""


@pytest.fixture(scope="module")
def slurm():
    """A running cluster."""
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    try:
        with slurm_cluster.cluster():
            yield
    except RuntimeError as error:
        pytest.skip(str(error).splitlines()[0])


@pytest.fixture(scope="module")
def finished(slurm, root, tmp_path_factory):
    """(working directory, output, environment) of a run with the SLURM profile.

    The first attempt of every training job gets too little memory. The submit host's environment
    is all but empty, what is in it is wrong for the jobs, and sbatch passes none of it on.
    """
    folder = tmp_path_factory.mktemp("slurm")
    home, work, typed, shims = (folder / name for name in ("project", "work", "typed in", "bin"))
    for path in (work, typed, shims):
        path.mkdir()
    for name in (
        "clclip",
        "workflow",
        "config",
        "profiles",
        "envs",
    ):  # a copy that nobody edits meanwhile
        shutil.copytree(root / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "Snakefile", home)
    (shims / "sbatch").write_text(SBATCH.format(sbatch="/usr/bin/sbatch"))
    (shims / "sbatch").chmod(0o755)
    (typed / "mine.yaml").write_text("base: smoke_clclip\n")
    environment = {
        "PATH": f"{shims}:/usr/bin:/bin",
        "HOME": str(folder),
        "PWD": str(typed),
        "CLCLIP_WANDB": "online",
        "OMP_NUM_THREADS": "not a number",
    }
    command = [sys.executable, "-m", "snakemake", "-s", str(home / "Snakefile")]
    command += ["--workflow-profile", str(home / "profiles/slurm"), "--directory", str(work)]
    command += ["--configfile", str(home / "config/smoke.yaml"), "--jobs", "4"]
    command += ["--slurm-init-seconds-before-status-checks", "2", "--slurm-no-account"]
    command += ["--slurm-status-command", "squeue"]  # there is no accounting database
    command += ["--default-resources", "slurm_partition=clc", "mem_mb=3000", "runtime=10"]
    command += ["--set-resources", "train_task:mem_mb=200*attempt**4"]
    command += ["--config", "experiments=mine.yaml"]
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=typed, env=environment, capture_output=True, text=True, timeout=900
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return work, said, environment, time.monotonic() - start


def test_smoke_workflow_ends_with_its_report(finished):
    work, *_ = finished
    summary = json.loads((work / "results/mine/summary.json").read_text())
    assert [task["task"] for task in summary["tasks"]] == [1, 2]
    assert 0 <= summary["final"]["A"] <= 100
    assert "<html" in (work / "results/report.html").read_text(encoding="utf-8")
    for log in (work / "results").rglob("train.log"):
        assert "done stage=train" in log.read_text()


def test_jobs_killed_for_memory_succeed_on_retry(finished):
    _, said, environment, _ = finished
    assert "Trying to restart job" in said
    jobs = subprocess.run(
        ["scontrol", "show", "job", "-o"], env=environment, capture_output=True, text=True
    ).stdout
    killed = [line for line in jobs.splitlines() if "JobState=OUT_OF_MEMORY" in line]
    killed += [line for line in jobs.splitlines() if "JobState=FAILED" in line]
    killed += [line for line in jobs.splitlines() if "JobState=CANCELLED" in line]
    assert killed and all("train_task" in line for line in killed), jobs
    asked = {int(m) for m in re.findall(r"MinMemoryNode=(\d+)M", "\n".join(killed))}
    assert asked == {200}


def test_jobs_ran_on_the_cluster_and_not_on_the_submit_host(finished):
    _, _, environment, _ = finished
    jobs = subprocess.run(
        ["scontrol", "show", "job", "-o"], env=environment, capture_output=True, text=True
    ).stdout
    trained = [line for line in jobs.splitlines() if "train_task" in line]
    assert trained and all("Partition=clc" in line and "gpu:1" in line for line in trained)


def test_second_run_submits_nothing(finished):
    work, _, environment, _ = finished
    home = work.parent / "project"
    command = [sys.executable, "-m", "snakemake", "-s", str(home / "Snakefile"), "-n"]
    command += ["--workflow-profile", str(home / "profiles/slurm"), "--directory", str(work)]
    command += ["--configfile", str(home / "config/smoke.yaml")]
    command += ["--config", "experiments=mine.yaml"]
    done = subprocess.run(
        command, cwd=Path(work).parent / "typed in", env=environment, capture_output=True, text=True
    )
    assert "Nothing to be done" in done.stdout + done.stderr
