"""One snakemake in a folder; a killed one leaves no lock that must be removed by hand."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clclip.core.errors import InputError
from clclip.workflow.folder_lock import RECORD, claim_folder, runs_nothing
from tests.helpers.workflow.project import EXPERIMENT, copy_project, make_cards

MINE = ["--config", "experiments=one.yaml"]
TRAINS = "results/one/seed0/task1/logs/train.log"


@pytest.fixture(scope="module")
def fresh(root, tmp_path_factory):
    project = copy_project(root, tmp_path_factory.mktemp("claims"))
    make_cards(project.work / "cards")
    project.write("one.yaml", {**EXPERIMENT, "tasks": [["ace"], ["jack"]]})
    return project


@pytest.mark.slow
def test_second_run_refuses_and_a_killed_one_leaves_nothing_to_do_by_hand(fresh):
    run = fresh.in_background(MINE[1], until=TRAINS, STUB_SECONDS="600")
    try:
        second = fresh.snakemake("--cores", "1", *MINE)
        looked = fresh.snakemake("--cores", "1", "-n", *MINE)
        summary = fresh.snakemake("--summary", *MINE)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert second.returncode == 2
    errors = [line for line in second.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and f"process {run.pid} on " in errors[0]
    assert looked.returncode == 0 and "train_task" in looked.stdout + looked.stderr
    assert summary.returncode == 0

    locks = fresh.work / ".snakemake" / "locks"
    assert any(locks.iterdir())  # what Snakemake left behind
    again = fresh.snakemake("--cores", "1", *MINE)
    text = again.stdout + again.stderr
    assert again.returncode == 0, text
    assert f"process {run.pid} on" in text and "its lock is removed" in text
    assert json.loads((fresh.work / RECORD).read_text())["ended"]
    assert (fresh.work / "trained.txt").read_text().count("/task1/") == 1
    third = fresh.snakemake("--cores", "1", *MINE)
    assert "Nothing to be done" in third.stdout + third.stderr
    assert "was killed" not in third.stdout + third.stderr


def test_a_lock_that_is_not_ours_stays(tmp_path):
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("x\n")
    claim_folder(tmp_path)  # no record: another workflow's run may hold these
    assert (locks / "0.output.lock").exists()
    claim_folder(tmp_path)  # the same process again


@pytest.mark.parametrize("host", ["mine", "another"])
def test_locks_of_a_dead_run_are_removed_on_its_own_host_only(tmp_path, monkeypatch, capsys, host):
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("x\n")
    record = {"pid": 7, "host": host, "since": "then"}
    (tmp_path / RECORD).write_text(json.dumps(record))
    monkeypatch.setattr("socket.gethostname", lambda: "mine")
    claim_folder(tmp_path, read_only=True)
    assert locks.exists() == (host == "another")
    said = capsys.readouterr().err
    assert f"process 7 on {host}, since then" in said
    assert ("--unlock" in said) == (host == "another")


def test_a_claim_ends_with_its_process_and_a_reader_is_let_in(tmp_path):
    code = (
        "import sys, time; from pathlib import Path;"
        "from clclip.workflow.folder_lock import claim_folder;"
        f"claim_folder(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        claim_folder(tmp_path, read_only=True)
        with pytest.raises(InputError, match=f"process {holder.pid} on .*one snakemake at a time"):
            claim_folder(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    claim_folder(tmp_path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    claim_folder(tmp_path, read_only=True)  # looking only is let be
    with pytest.raises(InputError, match=f"{os.strerror(number)}.*clclip.json.*--directory"):
        claim_folder(tmp_path)


def test_a_full_disk_is_bad_input(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("clclip.workflow.folder_lock._write", refuse)
    with pytest.raises(InputError, match="No space left on device"):
        claim_folder(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "reads"),
    [
        (["--cores", "all"], False),
        (["--cores", "2", "--config", "seeds=0,1"], False),
        (["--unlock"], True),
        (["--dag"], True),
        (["--cores", "1", "--summary"], True),
        (["--no-such-option"], False),
    ],
)
def test_which_command_lines_only_read(arguments, reads):
    assert runs_nothing(arguments) is reads
