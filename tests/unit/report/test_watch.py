"""``clclip watch``: a running workflow, told from files alone."""

from __future__ import annotations

import json
import os
import time

import pytest

from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.report import watch
from tests.helpers.report import world

STAMP = "2026-01-02 03:04:05,678 INFO clclip.training.history: "


def task(results, experiment, number, done=0, kind="detection", seconds=10.0):
    """Write a task of which the first ``done`` stages are over."""
    folder = results / experiment / "seed0" / f"task{number}"
    world.write(folder / "task.json", {"kind": kind, "seed": 0, "task": number})
    for stage in watch.STAGES[:done]:
        value = {"metrics": {"A": 87.65}} if stage == "score" else {}
        world.write(folder / watch.OUTPUTS[stage], value)
        log(folder, stage, f"{STAMP}done stage={stage} seconds={seconds} peak_mib=9")
    return folder


def log(folder, stage, text, age=0.0):
    """Write a stage's log whose last line is ``age`` seconds old."""
    path = folder / "logs" / f"{stage}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    os.utime(path, (time.time() - age,) * 2)


@pytest.fixture
def results(tmp_path):
    """One finished task, one that trains, one that failed, one that waits, one that is silent."""
    results = tmp_path / "results"
    task(results, "zoo_fvit", 1, done=4)
    training = task(results, "zoo_fvit", 2, done=1)
    line = "task 2 step 75/300 loss=0.512 box=0.100 score=0.412 eta=34s"
    log(
        training, "train", f"{STAMP}loading\n{STAMP}task 2 step 5/300 loss=9 eta=90s\n{STAMP}{line}"
    )
    failed = task(results, "zoo_mma", 1, done=2)
    fault = "ERROR clclip: bad input: no such file, in test.json, expected a file"
    log(failed, "predict", STAMP.replace("INFO clclip.training.history: ", "") + fault)
    task(results, "zoo_mma", 2)
    silent = task(results, "zoo_mma", 3, done=2)
    log(silent, "predict", f"{STAMP}predicted 32 of 128 images", age=3600)
    return results


def lines(results):
    """Return what is shown, by task."""
    tasks = watch.read_tasks(results)
    text = watch.as_text(tasks, [], watch.seconds_left(tasks, results), 200)
    return text.splitlines()[0], text.splitlines()[2:]


def test_every_task_is_told(results):
    head, rows = lines(results)
    assert "1 of 5 tasks done, 1 running, 1 failed" in head
    assert rows[0].startswith("zoo_fvit  seed 0") and rows[0].endswith("done  mAP@A 87.7")
    assert "train   [#####...............]  25%  step 75/300  loss 0.512  34.0 s left" in rows[1]
    assert "FAILED  no such file, in test.json, expected a file" in rows[2]
    assert rows[3].endswith("waiting")
    assert "25%  32 of 128 images  (silent for 1 h 0 min)" in rows[4]
    assert not rows[1].startswith("zoo_fvit"), "the name stands once"


def test_tasks_of_a_model_are_no_work_of_the_run(tmp_path):
    for number in (1, 2):
        folder = tmp_path / f"go/seed0/task{number}"
        folder.mkdir(parents=True)
        task = {"task": number, "seed": 0, "kind": "detection"}
        (folder / "task.json").write_text(json.dumps(task))
    assert [task.number for task in watch.read_tasks(tmp_path)] == [1, 2]
    (tmp_path / "go/seed0/start.json").write_text('{"parts": {"task1": ["ace"]}}')
    assert [task.number for task in watch.read_tasks(tmp_path)] == [2]


def test_time_left_counts_what_is_missing(results):
    tasks = watch.read_tasks(results)
    # zoo_fvit 2: 34 s of training, then predict and score; zoo_mma 1: predict, score;
    # zoo_mma 2: four stages; zoo_mma 3: three quarters of predict, and score
    assert watch.seconds_left(tasks, results) == pytest.approx(34 + 20 + 20 + 40 + 17.5)


def test_time_left_is_shared_by_running_jobs(tmp_path):
    task(tmp_path, "zoo", 1, done=4)
    for number in (2, 3):
        log(task(tmp_path, "zoo", number, done=1), "train", "begin")
    tasks = watch.read_tasks(tmp_path)
    assert watch.seconds_left(tasks, tmp_path) == pytest.approx(2 * 30 / 2)


def test_nothing_is_promised_before_a_stage_has_ended(tmp_path):
    task(tmp_path, "zoo", 1)
    assert watch.seconds_left(watch.read_tasks(tmp_path), tmp_path) is None


def test_own_times_count_more_than_others(tmp_path):
    task(tmp_path, "fast", 1, done=4, seconds=1.0)
    task(tmp_path, "slow", 1, done=4, seconds=100.0)
    task(tmp_path, "slow", 2, done=3, seconds=100.0)
    assert watch.seconds_left(watch.read_tasks(tmp_path), tmp_path) == pytest.approx(100)


def test_files_being_written_do_no_harm(tmp_path):
    folder = task(tmp_path, "zoo", 1, done=4)
    (folder / "scores.json").write_text("{")
    broken = task(tmp_path, "zoo", 2)
    (broken / "task.json").write_text('{"kind": "dete')
    log(
        task(tmp_path, "zoo", 3, done=1),
        "train",
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    )
    shown = lines(tmp_path)[1]
    assert len(shown) == 2 and shown[0].endswith("done") and shown[1].endswith("running")


def test_shared_work_is_told(tmp_path):
    resources = tmp_path / "resources"
    log(resources / "features" / "f", "train", f"{STAMP}features of 20/80 images, 12 s left")
    log(resources / "features" / "f", "old", "killed long ago", age=9999)
    log(resources / "data" / "d", "prepare", "x done stage=prepare seconds=3.0 peak_mib=1")
    shared = watch.read_shared(resources)
    assert [name for name, _ in shared] == ["features/f/logs/train"]
    assert shared[0][1].share == 0.25
    assert "20 of 80 images" in watch.as_text([], shared, None)


def test_it_ends_with_the_report(tmp_path):
    folder = task(tmp_path, "zoo", 1, done=4)
    tasks = watch.read_tasks(tmp_path)
    assert not watch.ended(tasks, tmp_path)
    (tmp_path / "report.html").write_text("page")
    assert watch.ended(tasks, tmp_path)
    os.utime(tmp_path / "report.html", (1, 1))
    assert not watch.ended(tasks, tmp_path), "the page is older than a score"
    os.utime(folder / "scores.json", (0, 0))
    said = []
    watch.watch(tmp_path, False, 0.01, said.append)
    assert len(said) == 1 and "1 of 1 tasks done" in said[0]


def test_it_looks_again(tmp_path, monkeypatch):
    task(tmp_path, "zoo", 1, done=3)
    said = []

    def sleep(seconds):
        task(tmp_path, "zoo", 1, done=4)
        (tmp_path / "report.html").write_text("page")

    monkeypatch.setattr(watch.time, "sleep", sleep)
    watch.watch(tmp_path, False, 0.01, said.append)
    assert ["waiting for score" in said[0], "done" in said[1]] == [True, True]


def test_lines_fit_the_terminal(results):
    tasks = watch.read_tasks(results)
    assert max(map(len, watch.as_text(tasks, [], 60.0, 40).splitlines())) <= 40


def test_command(results, tmp_path, capsys):
    assert main(["watch", str(results), "--once"]) == 0
    out = capsys.readouterr().out
    assert "1 of 5 tasks done" in out and "\x1b" not in out
    assert main(["watch", str(tmp_path / "nothing"), "--once"]) == 2
    assert "no task" in capsys.readouterr().err
    with pytest.raises(InputError, match="--every"):
        watch.watch(results, False, 0.0, print)
