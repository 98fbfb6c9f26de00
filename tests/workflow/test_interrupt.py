"""Ctrl-C on a run: once it waits for the running jobs, twice it stops them; then it is taken up."""

import os
import signal
import time

import psutil
import pytest

from clclip.workflow import interrupt
from tests.helpers.workflow.project import EXPERIMENT, copy_project, make_cards

MINE = "experiments=one.yaml"
TASKS = "results/one/seed0/task"


@pytest.fixture
def fresh(root, tmp_path):
    project = copy_project(root, tmp_path / "project")
    make_cards(project.work / "cards")
    project.write("one.yaml", {**EXPERIMENT, "tasks": [["ace"], ["jack"]]})
    return project


def interrupted(project, seconds, times):
    """Press Ctrl-C ``times`` times while task 1 trains for ``seconds``; return what was said."""
    run = project.in_background(MINE, until=f"{TASKS}1/logs/train.log", STUB_SECONDS=str(seconds))
    below = psutil.Process(run.pid).children(recursive=True)
    try:
        for _ in range(times):
            os.killpg(run.pid, signal.SIGINT)  # what a terminal does: the jobs get it as well
            time.sleep(2 * interrupt.ONCE_SECONDS)
        assert run.wait(60) != 0
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert psutil.wait_procs(below, timeout=10)[1] == []
    return project.said()


@pytest.mark.slow
def test_one_ctrl_c_waits_for_the_running_job_and_starts_no_other(fresh):
    said = interrupted(fresh, seconds=4, times=1)
    assert "Ctrl-C: waiting for 1 running job (train_task)" in said
    assert "Ctrl-C again stops at once" in said and "Traceback" not in said
    assert (fresh.work / f"{TASKS}1/weights.safetensors").exists()
    assert not (fresh.work / f"{TASKS}2/weights.safetensors").exists()
    fresh.run(MINE)
    assert (fresh.work / "trained.txt").read_text().count("/task1/") == 1


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_the_same_command_takes_the_run_up(fresh):
    said = interrupted(fresh, seconds=600, times=2)
    assert "Ctrl-C again: the running jobs are stopped" in said and "Traceback" not in said
    assert not (fresh.work / f"{TASKS}1/weights.safetensors").exists()
    again = fresh.run(MINE)  # no --rerun-incomplete, no --unlock
    assert (fresh.work / "results/report.html").exists() and "was killed" not in again


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([], "no further job starts"),
        (["train_task"], "waiting for 1 running job (train_task)"),
        (["a", "b", "c"], "waiting for 3 running jobs (a, b, c)"),
        (["a", "b", "c", "d"], "waiting for 4 running jobs (a, b, c, ...)"),
    ],
)
def test_what_the_first_ctrl_c_says(jobs, said):
    told = interrupt.waiting(jobs)
    assert said in told and "The same command takes the run up" in told
    assert ("again stops at once" in told) == bool(jobs)


def test_before_the_first_job_ctrl_c_ends_the_run_and_a_doubled_signal_counts_once(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    started, stopped = [], []
    monkeypatch.setattr(interrupt, "stop_jobs", lambda: stopped.append(True))
    try:
        interrupt.handle_interrupts(lambda: ["train_task"])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGTERM, lambda *_: started.append("no more"))
        for _ in range(2):  # uv passes a terminal's signal on
            signal.raise_signal(signal.SIGINT)
        deadline = time.monotonic() + 5
        while not started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert started == ["no more"] and not stopped
        monkeypatch.setattr(interrupt, "ONCE_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stopped == [True]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
